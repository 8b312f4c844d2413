"""Starting node from a driver: directories, descriptors, the process, and its end.

The driver binds `controller.sock` itself and node inherits it, so a driver can dial the controller at once: the
connect waits in the backlog while everything else starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import Annotated, Any

import msgspec

from eagleray.base.errors import ConfigError
from eagleray.base.settings import Settings
from eagleray.base.spans import require_opentelemetry
from eagleray.base.tracing import TracingOptions
from eagleray.engine.base import EngineError
from eagleray.engine.linux import kill_by_environment
from eagleray.engine.sessions import make_runtime_dir, make_session_dir, remove_tree
from eagleray.rpc.unix import listen_unix
from eagleray.wire.control import NodeConfig, encode

_Amount = Annotated[float, msgspec.Meta(ge=0)]

CLOSE_TIMEOUT_S = 3.0
"""Node needs at most 2 s for its end; one that needs longer is stuck and is killed."""


def node_config(**options: Any) -> NodeConfig:
    """A NodeConfig with what the environment says where `options` are silent. ConfigError when that is nonsense."""
    settings = Settings.from_env()
    options.setdefault("http_host", settings.http_host)
    options.setdefault("http_port", settings.http_port)
    options.setdefault("num_gpus", settings.num_gpus if settings.num_gpus >= 0 else None)
    if settings.resources:
        options.setdefault("resources", _read_resources(settings.resources))
    told = {
        "log_level": settings.log_level,
        "admin_port": str(settings.admin_port),
        "admin_hosts": settings.admin_hosts,
        "metrics_export_port": str(settings.metrics_export_port),
        "metrics": "1" if settings.metrics else "0",
    }
    options.setdefault("settings", told)
    if TracingOptions.read(options.get("tracing_config") or {}, settings).enabled:
        require_opentelemetry()
    if grpc := options.get("grpc_options"):
        options["grpc_options"] = {**grpc, "host": grpc.get("host") or settings.grpc_host}
    return NodeConfig(**options)


def _read_resources(text: str) -> dict[str, float]:
    try:
        return msgspec.json.decode(text, type=dict[str, _Amount])
    except msgspec.DecodeError as error:
        raise ConfigError(
            f'EAGLERAY_RESOURCES={text!r} must be a JSON object of amounts, such as {{"scanner": 2}}: {error}'
        ) from None


class NodeProcess:
    """A running node of this process. Its end is the owner's duty: `close`, or the death of this process."""

    def __init__(self, process: subprocess.Popen[bytes], owner: socket.socket, config: NodeConfig) -> None:
        self._process = process
        self._owner = owner
        self.config = config
        self.pid = process.pid

    @property
    def controller_address(self) -> str:
        return f"unix:{self.config.runtime_dir}/controller.sock"

    @property
    def runtime_dir(self) -> str:
        return self.config.runtime_dir

    @property
    def logs_dir(self) -> str:
        return self.config.logs_dir

    def is_alive(self) -> bool:
        return self._process.poll() is None

    async def wait_ready(self) -> None:
        """Returns when `controller_address` takes connects, which is at once; raises EngineError when node is dead."""
        if not self.is_alive():
            raise EngineError(
                "closed", f"node has ended with status {self._process.returncode}: {self.last_words()}"
            )

    async def wait(self) -> int:
        """Waits for node's end; its exit code, or minus the signal. May be cancelled."""
        if not self.is_alive():
            return self._process.wait()
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        pidfd = os.pidfd_open(self.pid)
        loop.add_reader(pidfd, _resolve, ended)
        try:
            await ended
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)
        return self._process.wait()

    def last_words(self) -> str:
        """The end of node's log, to be shown when it has died."""
        try:
            with open(
                os.path.join(self.config.logs_dir, "node.log"), encoding="utf-8", errors="replace"
            ) as log:
                return log.read()[-2000:].strip()
        except OSError:
            return ""

    def terminate(self) -> None:
        """Tells node to end the instance on its fast path; a second time without any grace."""
        if self.is_alive():
            self._process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Lets go of the instance, waits until it has ended (at most 3 s) and removes its sockets. Idempotent."""
        self._owner.close()
        try:
            self._process.wait(CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if os.path.isdir(
            self.config.runtime_dir
        ):  # node was killed: its children have died with it, theirs have not
            kill_by_environment("EAGLERAY_RUNTIME_DIR", self.config.runtime_dir)
            remove_tree(self.config.runtime_dir)


def spawn_node(config: NodeConfig | None = None, *, writes_bytecode: bool = True) -> NodeProcess:
    """Starts node and returns at once. Directories that `config` leaves empty are chosen and made, all with mode 0700.

    `writes_bytecode=False` is for sources that are being edited: Python knows stale bytecode by whole seconds and by
    length, so that of two quick edits the second might not be seen.

    The calling process is the owner: when it dies, or closes the NodeProcess, the instance ends.
    """
    config = config or node_config()
    locks: list[int] = []
    try:
        config = _with_directories(config, locks)
        with contextlib.ExitStack() as undo:
            owner, theirs = socket.socketpair()
            undo.enter_context(owner)
            with theirs, listen_unix(os.path.join(config.runtime_dir, "controller.sock")) as control:
                config = msgspec.structs.replace(
                    config, owner_fd=theirs.fileno(), control_fd=control.fileno()
                )
                flags = [] if writes_bytecode else ["-B"]
                process = spawn(config, [theirs.fileno(), control.fileno(), *locks], flags)
            undo.pop_all()  # it is the NodeProcess's from here on
    finally:
        for fd in locks:
            os.close(fd)
    return NodeProcess(process, owner, config)


def spawn(config: NodeConfig, fds: list[int], flags: list[str]) -> subprocess.Popen[bytes]:
    """Node's process, which inherits `fds`; its directories exist. `flags` are Python's own."""
    # -P: a file of the user's in the working directory must not shadow what node imports; PYTHONPATH still counts.
    command = [sys.executable, "-P", *flags, "-m", "eagleray.engine.node"]
    with open(os.path.join(config.logs_dir, "node.log"), "ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=fds,
            # A token is for a command line that talks to some instance, not for what runs in this one.
            env={name: value for name, value in os.environ.items() if name != "EAGLERAY_TOKEN"},
            start_new_session=True,  # Ctrl-C is the driver's: node ends in order, on the driver's word
        )
    assert process.stdin is not None
    try:
        process.stdin.write(encode(config))
        process.stdin.close()
    except BrokenPipeError:  # it has died already; wait_ready tells
        pass
    return process


def _with_directories(config: NodeConfig, locks: list[int]) -> NodeConfig:
    settings = Settings.from_env()
    runtime_dir, state_dir, logs_dir = config.runtime_dir, config.state_dir, config.logs_dir
    if not runtime_dir:
        runtime_dir, lock = make_runtime_dir(settings)
        locks.append(lock)
    if not (state_dir and logs_dir):
        session, lock = make_session_dir(settings)
        locks.append(lock)
        state_dir = state_dir or os.path.join(session, "state")
        logs_dir = logs_dir or os.path.join(session, "logs")
    for path in (runtime_dir, state_dir, logs_dir):
        os.makedirs(path, mode=0o700, exist_ok=True)
    return msgspec.structs.replace(config, runtime_dir=runtime_dir, state_dir=state_dir, logs_dir=logs_dir)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
