"""What can happen to the world: reports from outside, requests of users, and decisions that a plan has made."""

from __future__ import annotations

import msgspec

from eagleray.reconcile.instance import InstanceRow, Trigger
from eagleray.reconcile.placement import Supply
from eagleray.reconcile.target import PROXY_KEY, RunningConfig, Target


class Event(msgspec.Struct, frozen=True):
    """Base of all events."""


# ---- requests ---------------------------------------------------------------------------------------------------


class BuildRequest(Event, frozen=True, omit_defaults=True):
    """An application to be imported in a child; `args` is JSON."""

    import_path: str
    args: str = "{}"
    route_prefix: str | None = "/"
    sys_path: tuple[str, ...] = ()
    reload: bool = False
    runtime_env: str = ""
    """What the config says of the application's environment, as JSON; the builder has it, too."""
    imports: tuple[tuple[str, str, str], ...] = ()
    """(kind, import path, deployment) of what the config names, for the builder to look for."""


class Deployed(Event, frozen=True):
    """An application was accepted: it replaces the one of the same name. `at` is wall time, for people."""

    name: str
    spec: str
    at: float


class ImportRequested(Event, frozen=True):
    """An application was accepted that has yet to be built; a former one of the name serves on meanwhile.

    `config` is what a config file says of it (JSON), empty for one that a command line has named.
    """

    name: str
    request: BuildRequest
    at: float
    config: str = ""
    code_digest: str = ""


class Declared(Event, frozen=True):
    """The config of an application has changed, and its code need not be built for that.

    `spec` is config over code; empty when a builder is at work, or with `error` when they do not fit together.
    """

    name: str
    config: str
    at: float
    spec: str = ""
    error: str = ""


class InstanceDeclared(Event, frozen=True):
    """What a config file says of the instance as a whole (JSON)."""

    text: str


class Scaled(Event, frozen=True):
    """Somebody outside wants so many replicas of a deployment."""

    name: str
    deployment: str
    num_replicas: int


class Built(Event, frozen=True):
    """A build of `generation` has given this spec (`ApplicationSpec` as JSON).

    Of a declared application `code_spec` is what was built, and `spec` that with the config laid over it; it is empty,
    with an `error` for the user, when the two do not fit together.
    """

    name: str
    generation: int
    spec: str
    code_spec: str = ""
    error: str = ""


class BuildFailed(Event, frozen=True):
    """The build of `generation` failed; `error` is for the user."""

    name: str
    generation: int
    error: str


class Autoscaled(Event, frozen=True):
    """The count of a deployment is to be another one: its load asks for it. `at` is wall time."""

    key: str
    num_replicas: int
    reason: str
    at: float


class DeleteRequested(Event, frozen=True):
    names: tuple[str, ...]


class ShutdownRequested(Event, frozen=True):
    """Applications go, callers first, then proxies, then the instance."""


class LeavingBegun(Event, frozen=True):
    """The instance is about to drain: clients are told to go elsewhere, and served meanwhile."""


class DrainBegun(Event, frozen=True):
    """Everything drains and ends, callers first; what was deployed comes back with the next life of the instance."""


class ListenersClosing(Event, frozen=True):
    """The order to close the listeners has been given."""


class ProxyWanted(Event, frozen=True):
    """The target of the system deployment `key`; None: its proxies go."""

    target: Target | None
    key: str = PROXY_KEY


class SupplyKnown(Event, frozen=True):
    supply: Supply


# ---- reports ------------------------------------------------------------------------------------------------------


class Happened(Event, frozen=True):
    """`trigger` reached instance `ref`; `reason` is for people."""

    ref: str
    trigger: Trigger
    reason: str = ""


class Born(Event, frozen=True):
    """The engine has started the process; `at` is wall time, for people."""

    ref: str
    pid: int
    http_address: tuple[str, int] | None = None
    at: float = 0.0


class Suspended(Event, frozen=True):
    """The process was stopped by a signal such as SIGSTOP, or goes on again."""

    ref: str
    stopped: bool


class HealthChecked(Event, frozen=True):
    """`error` is empty, or why the check failed (time-outs among it). `rss_bytes` of its process, 0: not measured."""

    ref: str
    error: str = ""
    rss_bytes: int = 0


class Expired(Event, frozen=True):
    """The replica has served its time: it serves on until a fresh one has taken its place. `reason` is for people."""

    ref: str
    reason: str


class Adopted(Event, frozen=True):
    """What a new controller found alive: refs and pids, `addresses` of proxies, and `at` which wall time.

    A process whose birth nobody lived to store has all of it from here.
    """

    alive: dict[str, int]
    addresses: dict[str, tuple[str, int]] = {}
    at: float = 0.0


# ---- decisions ----------------------------------------------------------------------------------------------------


class Planned(Event, frozen=True):
    """A new instance; its row is durable before its process is started."""

    row: InstanceRow


class ReconfigureDecided(Event, frozen=True):
    ref: str
    config: RunningConfig


class Ordered(Event, frozen=True):
    """The order of the instance's present state has been given; OVERDUE after `within_s`, None: never."""

    ref: str
    within_s: float | None = None


class CheckBegun(Event, frozen=True):
    ref: str


class Reached(Event, frozen=True):
    """The deployment has converged on its target."""

    key: str


class Proven(Event, frozen=True):
    """The target was reached for long enough: the version before it is forgotten."""

    key: str


class DeploymentGone(Event, frozen=True):
    key: str


class BuildBegun(Event, frozen=True):
    name: str
    generation: int


class ApplicationGone(Event, frozen=True):
    name: str


class Ended(Event, frozen=True):
    """Nothing is left: the order to end the instance has been given."""
