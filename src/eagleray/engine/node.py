"""node: the single-threaded process that owns an instance's sockets and forks, reaps and kills its children.

It runs a plain selector loop that sleeps until something happens, and no user code. It restarts the controller when
that dies; about everything else it only reports. Its own end has a fast path: when the driver has gone, or on SIGTERM
or SIGINT, children get SIGTERM, after `END_GRACE_S` SIGKILL with their process groups, and nothing is left behind.

Children are signalled by pid only while they are node's unreaped children, so a pid can never be somebody else's; the
driver, which is no child of node's, is watched by pidfd.

A child that is stopped (SIGSTOP) cannot say so; the kernel tells node, which tells the controller, and kills the
controller itself when that stays stopped.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import resource
import selectors
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType

import msgspec

from eagleray.base import logs
from eagleray.engine.base import EngineError
from eagleray.engine.channel import Channel
from eagleray.engine.linux import become_subreaper, count_threads, open_fds, set_process_name, tune_malloc
from eagleray.engine.listeners import TcpListeners
from eagleray.engine.nursery import Nursery
from eagleray.engine.zygote import Birth, Forked, run_birth
from eagleray.rpc.unix import listen_unix, unlink_socket
from eagleray.wire.control import (
    Children,
    CloseListeners,
    Exited,
    Leaving,
    ListChildren,
    NodeCommand,
    NodeConfig,
    StartChild,
    StartFailed,
    StopChild,
    StopNode,
    Suspended,
    decode,
    encode,
)

END_GRACE_S = 1.0
"""From SIGTERM to SIGKILL when the instance ends: half of the 2 s in which everything must be gone."""

KILL_TIMEOUT_S = 0.7
"""How long node waits for killed processes to vanish, then it goes all the same."""

RESTART_DELAYS_S = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0)
"""Delay before restart n of a controller that keeps dying: at once first, then without burning a core."""

STABLE_AFTER_S = 1.0
"""A controller that has lived this long is restarted at once again: one that dies later and later burns no core."""

STOPPED_S = 2.0
"""A controller that was stopped by a signal may go on within this time; else it is killed and started again."""

PRELOAD = (
    "eagleray.replica.__main__",
    "eagleray.proxy.__main__",
    "eagleray.proxy.grpc.__main__",
    "eagleray.controller.__main__",
    "eagleray.build",
)
"""Runtimes whose pages all children share; `NodeConfig.preload` adds to them."""

CONTROLLER_REF = "controller"

_COMMANDS: msgspec.msgpack.Decoder[NodeCommand] = msgspec.msgpack.Decoder(NodeCommand)

log = logging.getLogger("eagleray.node")


class Node:
    """The supervisor; `run` returns when the instance has ended, and raises Forked in each child."""

    def __init__(self, config: NodeConfig, control: socket.socket, library_fds: frozenset[int]) -> None:
        self._config = config
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._nursery = Nursery(config.runtime_dir, config.logs_dir, library_fds)
        self._listeners = TcpListeners()
        self._wake_read, self._wake_write = socket.socketpair()
        self._owner: socket.socket | None = None
        self._channel: Channel | None = None
        self._controller_since = 0.0
        self._failures = 0
        self._restart_at: float | None = None
        self._kill_at: float | None = None
        self._is_leaving = False
        self._patience_at: float | None = None
        """When a stopped controller is killed."""

    def run(self) -> None:
        """Supervises until the end, then removes the sockets."""
        become_subreaper()
        self._watch_signals()
        self._watch_driver()
        self._start_controller()
        while not self._has_ended():
            for key, _ in self._selector.select(self._timeout_s()):
                key.data()
            if self._restart_at is not None and time.monotonic() >= self._restart_at:
                self._start_controller()
            if self._patience_at is not None and time.monotonic() >= self._patience_at:
                self._patience_at = None
                log.error("The controller has been stopped for %g s: it is killed.", STOPPED_S)
                self._nursery.signal(CONTROLLER_REF, signal.SIGKILL)
        self._nursery.kill_all(KILL_TIMEOUT_S)
        shutil.rmtree(self._config.runtime_dir, ignore_errors=True)

    def abandon(self, keep_fds: frozenset[int]) -> None:
        """In a child: forgets node's sockets without closing what the child has been given.

        The descriptors themselves are closed by the birth; a socket object that closed them again later could hit one
        of the child's.
        """
        self._selector.close()
        owned = [self._control, self._wake_read, self._wake_write, *self._listeners.sockets()]
        owned += [self._owner] if self._owner is not None else []
        owned += [self._channel.sock] if self._channel is not None else []
        for sock in owned:
            if sock.fileno() not in keep_fds:
                sock.detach()

    # ---- what wakes the loop -----------------------------------------------------------------------------------

    def _watch_signals(self) -> None:
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        # A full pipe loses nothing: each of these signals is only a hint to look.
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(signum, _note_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._watch(self._wake_read, self._on_signals)

    def _watch_driver(self) -> None:
        if self._config.owner_fd < 0:
            return
        self._owner = socket.socket(fileno=self._config.owner_fd)
        self._owner.setblocking(False)
        self._watch(self._owner, self._on_owner)
        # The socket alone would not do: a process that the driver has forked holds it open after the driver's death.
        pidfd = os.pidfd_open(os.getppid())
        self._watch(pidfd, lambda: self._on_driver_exit(pidfd))

    def _watch(self, fd: socket.socket | int, callback: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def _timeout_s(self) -> float | None:
        moments = [at for at in (self._restart_at, self._kill_at, self._patience_at) if at is not None]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _on_signals(self) -> None:
        received = set(self._wake_read.recv(4096))
        if signal.SIGCHLD in received:
            for exited in self._nursery.reap():
                self._on_exited(exited)
            for turned in self._nursery.turned():
                self._on_turned(turned)
        for signum in received & {signal.SIGTERM, signal.SIGINT}:
            if self._kill_at is not None:  # asked a second time: no more grace
                self._kill_at = 0.0
            if signum == signal.SIGTERM and self._config.drain_delay_s >= 0 and not self._is_leaving:
                self._leave()
            else:
                self._begin_end(signal.Signals(signum).name)

    def _on_owner(self) -> None:
        assert self._owner is not None
        try:
            data = self._owner.recv(4096)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(self._owner)
            self._begin_end("the driver has let go")

    def _on_driver_exit(self, pidfd: int) -> None:
        self._selector.unregister(pidfd)
        self._begin_end("the driver has ended")

    # ---- the controller ------------------------------------------------------------------------------------------

    def _start_controller(self) -> None:
        self._restart_at = None
        if self._kill_at is not None:
            return
        mine, theirs = socket.socketpair()
        self._channel = Channel(mine, self._selector, self._on_frame, self._on_channel_lost)
        # As a number, for in the child this frame is unwound and a socket object would close it.
        node_fd = theirs.detach()
        request = StartChild(
            ref=CONTROLLER_REF,
            module=self._config.controller_module,
            payload=encode(self._config),
            env=self._config.controller_env,
        )
        self._controller_since = time.monotonic()
        try:
            self._nursery.start(request, self._control, node_fd=node_fd)
        except EngineError as error:
            log.error("The controller cannot be started: %s", error)
            self._drop_channel()
            self._plan_restart()
        os.close(node_fd)

    def _plan_restart(self) -> None:
        now = time.monotonic()
        if now - self._controller_since >= STABLE_AFTER_S:
            self._failures = 0
        delay = RESTART_DELAYS_S[min(self._failures, len(RESTART_DELAYS_S) - 1)]
        self._failures += 1
        self._restart_at = now + delay

    def _on_channel_lost(self, reason: str) -> None:
        self._channel = None
        log.warning(
            "The controller's channel is lost (%s); it is killed, if it has not died already.", reason
        )
        self._nursery.signal(CONTROLLER_REF, signal.SIGKILL)

    def _drop_channel(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _on_exited(self, exited: Exited) -> None:
        if exited.ref != CONTROLLER_REF:
            if self._channel is not None:
                self._channel.send(exited)
            return
        self._drop_channel()
        if self._kill_at is None:
            self._patience_at = None
            self._plan_restart()
            log.error("The controller (pid %d) has ended with status %d.", exited.pid, exited.status)

    def _on_turned(self, turned: Suspended) -> None:
        if turned.ref == CONTROLLER_REF:
            self._patience_at = time.monotonic() + STOPPED_S if turned.stopped else None
        elif self._channel is not None:
            self._channel.send(turned)

    # ---- its commands ------------------------------------------------------------------------------------------

    def _on_frame(self, frame: bytes) -> None:
        try:
            command = _COMMANDS.decode(frame)
        except msgspec.MsgspecError as error:
            log.error("A command of %d bytes is not understood and ignored: %s", len(frame), error)
            return
        try:
            self._obey(command)
        except Exception:  # the root of a command: node must outlive whatever is in it
            log.exception("%s failed", type(command).__name__)

    def _obey(self, command: NodeCommand) -> None:
        match command:
            case StartChild():
                self._start_child(command)
            case StopChild():
                self._nursery.signal(command.ref, command.signal)
            case ListChildren() if self._channel is not None:
                children = [child for child in self._nursery.started() if child.ref != CONTROLLER_REF]
                self._channel.send(Children(children=children))
                for ref in self._nursery.stopped():
                    self._channel.send(Suspended(ref=ref, stopped=True))
                if self._is_leaving:
                    self._channel.send(Leaving())
            case CloseListeners():
                self._listeners.close()
            case StopNode():
                self._begin_end("asked by the controller")

    def _start_child(self, request: StartChild) -> None:
        if self._channel is None:
            return
        listener: socket.socket | None = None
        failed: StartFailed | None = None
        try:
            if self._kill_at is not None:
                raise EngineError("closed", f"'{request.ref}' is not started: the instance is shutting down.")
            if self._nursery.pid_of(request.ref) is not None:
                raise EngineError("exists", f"A child '{request.ref}' is already running.")
            http = self._listeners.get(*request.http) if request.http is not None else None
            listener = listen_unix(request.listen) if request.listen else None
            self._channel.send(self._nursery.start(request, listener, http))
        except EngineError as error:
            failed = StartFailed(ref=request.ref, reason=error.reason, code=error.code)
        except (OSError, ValueError, OverflowError) as error:
            failed = StartFailed(ref=request.ref, reason=f"'{request.ref}': {error}")
        # Node keeps no copy, so that the child's death refuses connects. (A `finally` would run in the child too.)
        if listener is not None:
            listener.close()
        if failed is not None:
            if listener is not None:
                unlink_socket(request.listen)
            self._channel.send(failed)

    # ---- the end -------------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        """The end in order, which is the controller's to arrange. One that is not there is told when it is."""
        log.info("The instance drains and ends; a second SIGTERM ends it at once.")
        self._is_leaving = True
        if self._channel is not None:
            self._channel.send(Leaving())

    def _begin_end(self, reason: str) -> None:
        if self._kill_at is None:
            log.info("The instance ends: %s.", reason)
            self._kill_at = time.monotonic() + END_GRACE_S
            self._restart_at = None
            self._listeners.close()
            self._nursery.signal_all(signal.SIGTERM)

    def _has_ended(self) -> bool:
        return self._kill_at is not None and (not self._nursery or time.monotonic() >= self._kill_at)


def _note_signal(signum: int, frame: FrameType | None) -> None:
    """The wake-up socket has the number already."""


def main() -> None:
    """Entry of `python -m eagleray.engine.node`, with the msgpack of a NodeConfig on standard input."""
    birth = _supervise()
    if birth is not None:
        run_birth(birth)


def _supervise() -> Birth | None:
    """Returns None when the instance has ended, and in a child what it is to be; node's frames are gone then."""
    gc.disable()  # collections would only tear the pages that children are to share
    config = decode(sys.stdin.buffer.read(), NodeConfig)
    set_process_name("er:node")
    tune_malloc()
    _raise_fd_limit()
    control = _control_listener(config)
    before = open_fds()
    preload([*PRELOAD, *config.preload])
    logs.setup(logs.Component("node", str(os.getpid())), logs.LogOptions.read(config.logging_config))
    node = Node(config, control, frozenset(open_fds() - before))
    gc.freeze()
    try:
        node.run()
    except Forked as forked:
        node.abandon(forked.birth.keep_fds)
        return forked.birth
    return None


def _control_listener(config: NodeConfig) -> socket.socket:
    if config.control_fd < 0:
        return listen_unix(os.path.join(config.runtime_dir, "controller.sock"))
    sock = socket.socket(fileno=config.control_fd)
    sock.setblocking(False)
    return sock


def _raise_fd_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def preload(modules: Sequence[str]) -> None:
    """Imports what children share. A module that fails fails again, and visibly, in the child that needs it.

    Raises SystemExit when one has started a thread: node could not fork safely any more.
    """
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception:  # the user's modules may raise anything
            logging.getLogger("eagleray.node").exception("Preloading '%s' failed", name)
        if (threads := count_threads()) != 1:
            sys.exit(f"Preloading '{name}' started {threads - 1} thread(s): take it out of the preload list.")


if __name__ == "__main__":
    main()
