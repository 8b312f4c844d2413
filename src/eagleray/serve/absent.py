"""Names of Ray Serve that Eagleray does not have, each with why and what does the same: one error for all of them.

A module of them cannot be imported. A function or class can, so that it may stand in annotations; whoever uses it gets
the error. An unknown name stays what it is, an AttributeError.
"""

from __future__ import annotations

from typing import Any, NoReturn

from eagleray.base.errors import EaglerayError

_COMPOSE = "bind deployments into one another, `Front.bind(Model.bind())`, and await their handles"
_FIRST = "Ray Serve dropped it before its version 2"

WHY: dict[str, tuple[str, str]] = {
    "dag": ("deployment graphs are gone from Ray Serve, too, of which only this name is left", _COMPOSE),
    "drivers": ("deployment graphs and their driver left Ray Serve in 2.9", _COMPOSE),
    "deployment_graph": ("deployment graphs left Ray Serve in 2.9", _COMPOSE),
    "http_adapters": (
        "they left Ray Serve in 2.9",
        "annotate the parameter of `__call__` (docs/typed-requests.md), or use FastAPI with @serve.ingress",
    ),
    "llm": (
        "it is made of vLLM and of Ray's placement groups",
        "put the engine into a deployment of your own that streams (examples/streaming_chat), or run on the Ray engine",
    ),
    "taskiq_task_processor": (
        "tasks are queued by Eagleray itself",
        "use serve.task_processor.RedisTaskProcessorAdapter (docs/tasks.md)",
    ),
    "CapacityQueue": (
        "no router overruns a replica here, so nothing has to hand out capacity",
        "leave it away",
    ),
    "CapacityQueueRouter": (
        "no router overruns a replica here, so nothing has to hand out capacity",
        "leave request_router_class away, which gives power of two choices",
    ),
    "accept_batch": (_FIRST, "use @serve.batch on an async method"),
    "BackendConfig": (_FIRST, "give options to @serve.deployment"),
    "create_backend": (_FIRST, "use @serve.deployment and serve.run"),
    "create_endpoint": (_FIRST, "use serve.run(app, route_prefix=...)"),
    "set_traffic": (_FIRST, "split traffic in a deployment of your own that calls two handles"),
}
"""Name below `serve` -> why it is not there, and what to do instead."""

MODULES = ("dag", "drivers", "deployment_graph", "http_adapters", "llm", "taskiq_task_processor")


class AbsentError(EaglerayError, ImportError):
    """The program uses a name of Ray Serve that Eagleray does not have."""

    code = "config"
    blame = "caller"


def missing(name: str) -> AbsentError:
    """The error for `name`, one of `WHY`."""
    why, instead = WHY[name]
    return AbsentError(f"Eagleray has no serve.{name}: {why}. Instead: {instead}. See docs/compat.md.")


class Absent:
    """Stands for a function or class that there is not; using it raises AbsentError."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise missing(self._name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # inspection by libraries, and by pickle of an object that is not made yet
            raise AttributeError(name)
        raise missing(self._name)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> NoReturn:
        raise missing(self._name)

    def __repr__(self) -> str:
        return f"<serve.{self._name}, which Eagleray does not have>"
