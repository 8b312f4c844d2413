"""Messages of the control plane: what node, controller, proxy, replica and driver say to each other.

They are bodies of `CallKind.CONTROL` calls (or of node's frames), as msgpack maps: rare, so rather readable than small.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class Message(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Base of all control messages; unknown fields are ignored, so that versions may differ by one."""


class Empty(Message):
    """Nothing to say."""


# ---- node <-> controller (engine/local): commands down, events up -------------------------------------------


class StartChild(Message, tag="start"):
    """Fork a child that runs `module`'s `main(child)`.

    `listen` is the path of a Unix socket that node binds before the fork (mode 0600) and the child inherits, so that
    a connect right after `Started` succeeds. `http` makes node bind (or reuse) a TCP listener that the child inherits.
    With `python` the child becomes that interpreter. While it lives it locks `holds`, so that nobody collects them.
    """

    ref: str
    module: str
    payload: bytes = b""
    env: dict[str, str] = {}
    cwd: str = ""
    listen: str = ""
    http: tuple[str, int] | None = None
    log_path: str = ""
    python: str = ""
    holds: list[str] = []


class StopChild(Message, tag="stop"):
    """Send `signal` to the child, and to its whole process group when it is SIGKILL."""

    ref: str
    signal: int = 15


class ListChildren(Message, tag="list"):
    """Ask for `Children`."""


class StopNode(Message, tag="stop_node"):
    """Ordered end of the instance: node kills what is left, unlinks its sockets and exits 0."""


class CloseListeners(Message, tag="close_listeners"):
    """Close the TCP listeners: no new connections from now on, and no other proxy."""


class Started(Message, tag="started"):
    ref: str
    pid: int
    start_time: float = 0.0
    http_address: tuple[str, int] | None = None


class StartFailed(Message, tag="start_failed"):
    """The child was not started; `code` is `port_in_use` or `internal`."""

    ref: str
    reason: str
    code: str = "internal"


class Exited(Message, tag="exited"):
    """The child has ended and was reaped: `status` >= 0 is its exit code, < 0 minus the signal."""

    ref: str
    pid: int
    status: int


class Suspended(Message, tag="suspended"):
    """The child's process was stopped by a signal such as SIGSTOP, or goes on again (`stopped` is False)."""

    ref: str
    stopped: bool


class Children(Message, tag="children"):
    """Everything alive, for adoption after a restart of the controller; `Suspended` follows for what is stopped."""

    children: list[Started] = []


class Leaving(Message, tag="leaving"):
    """Node was asked to end in order: readiness flips, then all drain; the controller says `StopNode` at the end."""


NodeCommand = StartChild | StopChild | ListChildren | CloseListeners | StopNode
NodeEvent = Started | StartFailed | Exited | Suspended | Children | Leaving


class NodeConfig(Message):
    """What the driver gives node on its standard input (msgpack), and node gives the controller as payload.

    `owner_fd` is that of an inherited socket whose EOF means that the driver has gone (-1: detached), `control_fd` of
    the inherited listener of `controller.sock` (-1: node binds it). `spawn_node` fills in both and empty directories.
    """

    runtime_dir: str = ""
    state_dir: str = ""
    logs_dir: str = ""
    http_host: str | None = "127.0.0.1"
    http_port: int = 8000
    http_options: dict[str, Any] = {}
    grpc_options: dict[str, Any] = {}
    """All fields of `gRPCOptions`, and the `sys_path` of its servicer functions; empty: no gRPC."""
    settings: dict[str, str] = {}
    logging_config: dict[str, Any] = {}
    """Of all components, and of applications without one of their own; empty: what the environment says."""
    tracing_config: dict[str, Any] = {}
    """Given fields of a TracingConfig, and the `sys_path` of its exporter; the environment says the rest."""
    num_gpus: int | None = None
    resources: dict[str, float] = {}
    memory_bytes: int | None = None
    drain_delay_s: float = -1.0
    """From SIGTERM, at which readiness flips, until everything drains; below 0 everything ends at once."""
    owner_fd: int = -1
    control_fd: int = -1
    controller_module: str = "eagleray.controller.__main__"
    controller_env: dict[str, str] = {}
    preload: list[str] = []


# ---- payloads that a child is born with ----------------------------------------------------------------------


class ReplicaLaunch(Message):
    """All that a replica needs; it asks nobody. `target` is `module:qualified.name`, or empty when `code` is given.

    `code` is `codec.dump_code(callable)`; `init` is `codec.dump_code((args, kwargs))`.
    """

    app: str
    deployment: str
    replica_id: str
    version: str
    target: str = ""
    code: bytes = b""
    init: bytes = b""
    user_config: bytes = b""
    max_ongoing_requests: int = 5
    max_ongoing_requests_given: bool = False
    """By the user; else the replica may take more, when its batches hold more."""
    max_requests: int = 0
    """After so many it asks to be replaced; 0: never."""
    graceful_shutdown_wait_loop_s: float = 2.0
    graceful_shutdown_timeout_s: float = 20.0
    is_ingress: bool = False
    route_prefix: str | None = None
    root_path: str = ""
    sys_path: list[str] = []
    controller_address: str = ""
    rank: int = 0
    world_size: int = 1
    deployment_config: dict[str, Any] = {}
    logging_config: dict[str, Any] = {}
    tracing_config: dict[str, Any] = {}
    logs_dir: str = ""


class ProxyLaunch(Message):
    """What an HTTP proxy is born with; the listening socket is inherited."""

    proxy_id: str
    controller_address: str
    http_options: dict[str, Any] = {}
    logging_config: dict[str, Any] = {}
    tracing_config: dict[str, Any] = {}
    logs_dir: str = ""


class GrpcProxyLaunch(Message):
    """What a gRPC proxy is born with; it binds its port itself, as the library offers no other way."""

    proxy_id: str
    controller_address: str
    grpc_options: dict[str, Any] = {}
    logging_config: dict[str, Any] = {}
    tracing_config: dict[str, Any] = {}


class BuilderLaunch(Message):
    """A child that imports the user's application, answers `build` once and ends."""

    import_path: str
    args: dict[str, Any] = {}
    name: str = "default"
    route_prefix: str | None = "/"
    sys_path: list[str] = []
    paths: list[str] = []
    """Come before `sys_path`, and are no part of what is declared: where its runtime_env has been put."""
    imports: list[tuple[str, str, str]] = []
    """(kind, import path, deployment) of what a config names: looked for, for the sake of an early error."""
    reload: bool = False
    """Versions are digests of the code (`serve.fingerprint`), so that only what changed restarts; else random."""
    logs_dir: str = ""


# ---- controller -> replica / proxy / builder: CONTROL calls on the child's own socket --------------------------


class Ready(Message):
    """Reply to `ready`, which waits until the child has started: `error` is empty, or the user's traceback."""

    error: str = ""
    pid: int = 0
    docs_path: str | None = None
    methods: list[str] = []


class Reconfigure(Message):
    """Body of `reconfigure`; fields left at None stay as they are. Replies with `Ready` (its `error`)."""

    user_config: bytes | None = None
    max_ongoing_requests: int | None = None
    max_ongoing_requests_given: bool | None = None
    graceful_shutdown_wait_loop_s: float | None = None
    route_prefix: str | None = None
    rank: int | None = None
    world_size: int | None = None
    logging_config: dict[str, Any] | None = None


class Health(Message):
    """Reply to `check_health`: `error` is empty, or why the user's `check_health` says no.

    `expired` says why the replica wants to be replaced, should its `expire` have been lost.
    """

    error: str = ""
    expired: str = ""
    ongoing: int = 0


class Drain(Message):
    """Body of `drain`: take no more calls, finish those in flight within `timeout_s`, run `__del__`, then reply."""

    timeout_s: float = 20.0


class Built(Message):
    """Reply to `build`: an `ApplicationSpec` as JSON and its blobs by digest, or `error` for the user."""

    spec: bytes = b""
    blobs: dict[str, bytes] = {}
    error: str = ""


# ---- driver, CLI, replica, proxy -> controller: CONTROL calls on controller.sock -------------------------------


class Deploy(Message):
    """Body of `deploy`: applications as `ApplicationSpec` JSON, with the blobs they name. Replies `Accepted`."""

    specs: list[bytes]
    blobs: dict[str, bytes] = {}


class DeployImport(Message):
    """Body of `deploy_import`: the controller has it built, in a child with `env_vars`. Replies `Accepted`."""

    import_path: str
    args: dict[str, Any] = {}
    name: str = "default"
    route_prefix: str | None = "/"
    sys_path: list[str] = []
    paths: list[str] = []
    """Come before `sys_path`, and are no part of what is declared: where its runtime_env has been put."""
    reload: bool = False
    env_vars: dict[str, str] = {}


class Accepted(Message):
    """`error` is empty once the deploy is durable; else why it was refused (nothing has changed then)."""

    error: str = ""
    warnings: list[str] = []


class ApplyConfig(Message):
    """Body of `apply_config`: a whole config file as JSON. Replies `Accepted`, before anything of it is true.

    With `name` the JSON is that of one application, and all others are left alone. `sys_path` is where applications
    without a `working_dir` are imported from; `source` names the file in messages.
    """

    config: bytes
    merge: bool = False
    name: str = ""
    sys_path: list[str] = []
    source: str = "the config"


class JsonReply(Message):
    """Reply to `details` and `applied_config`."""

    body: bytes


class WaitApplications(Message):
    """Body of the streaming call `wait`: DATA chunks are `Progress`, the last one has `done`.

    `verbose` tells each step, not only what takes long.
    """

    names: list[str]
    verbose: bool = False


class Progress(Message):
    """`outcome` of the last one: `running`, `failed`, `deleted` (application replaced or gone)."""

    done: bool = False
    outcome: str = ""
    app: str = ""
    message: str = ""


class DeleteApplications(Message):
    """Body of `delete`; replies when every named application is gone (unknown names are)."""

    names: list[str]


class InstanceInfo(Message):
    """Reply to `info`. `http_url` is empty without a proxy; `http_error` says why the proxy cannot start.

    `grpc_address` and `grpc_error` are the same of gRPC, `admin_url` and `admin_error` of the REST server, whose token
    is in the file `admin_token_path`.
    """

    http_url: str = ""
    http_error: str = ""
    grpc_address: str = ""
    grpc_error: str = ""
    admin_url: str = ""
    admin_error: str = ""
    admin_token_path: str = ""
    logs_dir: str = ""
    pid: int = 0


class StatusReply(Message):
    """Reply to `status`: the shape of `ServeStatus` (surface 5.5) as JSON."""

    status: bytes


class Watch(Message):
    """Body of the streaming call `watch`: DATA chunks are `routing.table.RoutingTable` (msgpack), newest only.

    The subscriber answers each with the unary call `ack`.
    """

    since_version: int = 0
    subscriber: str = ""


class Ack(Message):
    """Body of `ack`: this subscriber routes by `version` from now on."""

    subscriber: str
    version: int


_encoder = msgspec.msgpack.Encoder()


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def decode(data: bytes | memoryview, kind: type[T]) -> T:
    """Raises msgspec.ValidationError (or DecodeError) for anything that is not a `kind`."""
    result: T = msgspec.msgpack.decode(data, type=kind)
    return result
