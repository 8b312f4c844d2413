"""Who am I: the replica this code runs in, the request it serves, and the runtime that carries its handle calls.

A request's context lives in a ContextVar, so it follows user code into tasks and threads; child calls copy its
request id from it and are cancelled with it. The process part is the one piece of global state of the public API,
because `serve.run` and `pickle.loads(handle)` are process-wide by nature; it holds references and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from eagleray.base.errors import EaglerayError
from eagleray.base.ids import DeploymentID, ReplicaID

if TYPE_CHECKING:
    from eagleray.base.metrics import Registry
    from eagleray.serve.batching import Batcher
    from eagleray.serve.grpc_util import RayServegRPCContext
    from eagleray.serve.runtime import Runtime
    from eagleray.serve.tracing import Tracing


class Child(Protocol):
    """A call that a request has made and that ends with it."""

    def abandon(self) -> None: ...


class Lender(Protocol):
    """Where a request has got something that it keeps until its end: a cache of models."""

    def release(self, holder: Hashable) -> None: ...


@dataclass(frozen=True)
class ReplicaRank:
    """Numbers of a replica: among all, of its node among the nodes, and on its node."""

    rank: int = 0
    node_rank: int = 0
    local_rank: int = 0


@dataclass
class ReplicaContext:
    """The replica that this code runs in. `servable_object` is the live instance, or the function."""

    replica_id: ReplicaID
    servable_object: Any = None
    rank: ReplicaRank = field(default_factory=ReplicaRank)
    world_size: int = 1
    code_version: str = ""
    gang_context: None = None
    """Ray Serve's place for a GangContext: the local engine has no gangs."""
    _deployment_config: Any = None
    """Options of the deployment as attributes."""
    _models: Any = None
    """The `serve.multiplex.ModelHost` of this replica."""
    _expire: Any = None
    """Called with the reason why this replica is to be replaced."""

    def exit(self) -> None:
        """Has this replica replaced: it serves on until a fresh one is up, then it drains and ends.

        Returns at once, may be called from any thread, and more than once. In local testing mode it does nothing.
        """
        if self._expire is not None:
            self._expire("its code has called get_replica_context().exit()")

    @property
    def app_name(self) -> str:
        return self.replica_id.deployment_id.app_name

    @property
    def deployment(self) -> str:
        return self.replica_id.deployment_id.name

    @property
    def replica_tag(self) -> str:
        return self.replica_id.unique_id


@dataclass(frozen=True)
class DeploymentActorContext:
    """What an actor that replicas share knows of itself, for annotations: the local engine has none."""

    deployment_id: DeploymentID
    actor_name: str
    code_version: str

    @property
    def app_name(self) -> str:
        return self.deployment_id.app_name

    @property
    def deployment(self) -> str:
        return self.deployment_id.name


class RequestContext:
    """One request while it runs. `deadline` is CLOCK_MONOTONIC seconds, 0 for none.

    `children` holds the handle calls in flight under this request; it is None where nobody tracks them (outside a
    replica, and after the request has ended, so that detached work is left alone).
    """

    __slots__ = (
        "_internal_request_id",
        "app_name",
        "cancel_on_parent_request_cancel",
        "cancelled",
        "children",
        "deadline",
        "grpc_context",
        "held",
        "is_http_request",
        "multiplexed_model_id",
        "request_id",
        "route",
        "session_id",
        "traceparent",
    )

    def __init__(
        self,
        request_id: str = "",
        route: str = "",
        app_name: str = "",
        *,
        deadline: float = 0.0,
        traceparent: str = "",
        multiplexed_model_id: str = "",
        session_id: str = "",
        is_http_request: bool = False,
        children: set[Child] | None = None,
    ) -> None:
        self.request_id = request_id
        self._internal_request_id = request_id
        self.route = route
        self.app_name = app_name
        self.deadline = deadline
        self.traceparent = traceparent
        self.multiplexed_model_id = multiplexed_model_id
        self.session_id = session_id
        self.is_http_request = is_http_request
        self.grpc_context: RayServegRPCContext | None = None
        self.cancel_on_parent_request_cancel = True
        self.children = children
        self.cancelled = False
        self.held: set[Lender] | None = None

    def cancel_children(self) -> None:
        """Cancels all calls in flight under this request and those it may still make. On the loop of the runtime."""
        self.cancelled = True
        for child in list(self.children or ()):
            child.abandon()

    def finish(self) -> None:
        """The request has been answered: calls that still run under it are detached."""
        self.children = None

    def hold(self, lender: Lender) -> None:
        """It has been lent something, which it gives back by `release`."""
        if self.held is None:
            self.held = {lender}
        else:
            self.held.add(lender)

    def release(self) -> None:
        """No code of the request runs any more: what it was lent may go."""
        self.children = None
        lenders, self.held = self.held, None
        for lender in lenders or ():
            lender.release(self)


NO_REQUEST = RequestContext()
"""What code outside any request sees; never written to."""

_serve_request_context: ContextVar[RequestContext] = ContextVar("eagleray_request", default=NO_REQUEST)
"""Set by the replica around user code. Ray Serve's name, because programs import it."""

_serve_batch_request_context: ContextVar[list[RequestContext]] = ContextVar("eagleray_batch", default=[])  # noqa: B039
"""In the body of a batched function: the contexts of its requests, in the order of the items. Ray Serve's name."""

current_request = _serve_request_context.get
"""The context of the request that this code serves, or `NO_REQUEST`."""


def _get_serve_request_context() -> RequestContext:
    """Ray Serve's name for `current_request`."""
    return _serve_request_context.get()


def _get_serve_batch_request_context() -> list[RequestContext]:
    """In the body of a batched function: the contexts of its requests, in the order of the items; else empty."""
    return list(_serve_batch_request_context.get())


class Process:
    """What this process is: set by the replica worker, or by `serve.start` in a driver."""

    __slots__ = ("declare_batcher", "find_runtime", "hold_answers", "replica", "runtime", "tracing")

    def __init__(self) -> None:
        self.declare_batcher: Callable[[Batcher], object] | None = None
        """Told, from any thread, of a batched function's first use and of changed settings."""
        self.hold_answers: Callable[[], object] | None = None
        """Told, on the user's loop, that many calls will be answered in its next turn."""
        self.runtime: Runtime | None = None
        self.replica: ReplicaContext | None = None
        self.tracing: Tracing | None = None
        """In a replica whose requests are traced."""
        self.find_runtime: Callable[[], Runtime] | None = None
        """In local testing mode: the runtime of code that runs in no replica."""


process = Process()

here: ContextVar[Process | None] = ContextVar("eagleray_here", default=None)
"""In local testing mode, the replica that this code runs in; there several replicas share the process."""


def current_process() -> Process:
    """What this code runs in."""
    return here.get() or process


def install(runtime: Runtime | None, replica: ReplicaContext | None = None) -> None:
    """Makes `runtime` the one that handles of this process use; `replica` is what `get_replica_context` returns."""
    process.runtime = runtime
    process.replica = replica
    process.declare_batcher = process.hold_answers = None


def current_runtime() -> Runtime:
    """The runtime of this process; attaches to the instance that the environment names when there is none yet.

    Raises NotRunningError when no instance is to be found.
    """
    found = known_runtime()
    if found is not None:
        return found
    from eagleray.serve.instance import (
        attach,
    )  # imports rpc and asyncio, which a mere @deployment does not need

    return attach()


def known_runtime() -> Runtime | None:
    """As `current_runtime`, but attaches to nothing."""
    found = current_process().runtime or process.runtime
    return process.find_runtime() if found is None and process.find_runtime is not None else found


class Place(NamedTuple):
    """Where code counts: the registry of its process, and in a replica what its series say of it."""

    registry: Registry
    labels: tuple[str, ...]
    """Deployment, replica, application; empty outside of a replica."""


def current_place() -> Place | None:
    """Where this code counts; None in a process that has not to do with an instance yet. Attaches to nothing."""
    here = current_process()
    runtime, replica = here.runtime or process.runtime, here.replica
    if runtime is None:
        return None
    if replica is None:
        return Place(runtime.registry, ())
    return Place(runtime.registry, (replica.deployment, replica.replica_tag, replica.app_name))


def get_replica_context() -> ReplicaContext:
    """The context of the replica that calls this; RayServeException outside a replica."""
    replica = current_process().replica
    if replica is None:
        raise EaglerayError(
            "`serve.get_replica_context()` may only be called from within a replica: in the constructor or a method "
            "of a deployment."
        )
    return replica
