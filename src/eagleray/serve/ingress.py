"""`@serve.ingress`: a class whose HTTP side is an ASGI application; FastAPI class-based views.

The decorator only marks the class: the application is completed in the replica, where the instance exists. Routes
written on methods are made anew there, with the method bound to the instance, so that no `self` is left for FastAPI to
take for a parameter. FastAPI is touched only if the user has imported it.
"""

from __future__ import annotations

import copy
import copyreg
import inspect
import math
import sys
from collections.abc import Callable
from typing import Any

from eagleray.base.errors import BackPressureError, DeploymentUnavailableError

ASGIApp = Callable[[Any, Any, Any], Any]

_MARK = "__serve_ingress__"
_HOOK = "__serve_build_asgi_app__"


class Ingress:
    """What `@serve.ingress` leaves on a class: an ASGI application, or a function without arguments that makes one."""

    __slots__ = ("app", "build")

    def __init__(self, app: Any, build: Callable[[], Any] | None) -> None:
        self.app = app
        self.build = build

    def __reduce__(self) -> tuple[Any, ...]:
        return Ingress, (self.app, self.build)


def ingress(app: Any = None) -> Callable[..., Any]:
    """Serves HTTP requests to the class through `app`; goes below `@serve.deployment`.

    `app` is a FastAPI application or router, any ASGI application, a function without arguments that returns one, or
    None for a class that has `__serve_build_asgi_app__`. The decorator raises ValueError for what is no class, for a
    class with `__call__`, and for None without the hook; without a class it makes an empty one.
    """
    mark = Ingress(None, app) if _is_builder(app) else Ingress(app, None)
    _teach_pickle()

    def decorate(cls: Any = None) -> Any:
        if cls is None:
            cls = type(
                "ASGIIngress", (), {"__module__": "__main__", "__doc__": "Serves an ASGI application."}
            )
        if not inspect.isclass(cls):
            raise ValueError("@serve.ingress must be applied to a class, below @serve.deployment.")
        if "__call__" in {name for base in cls.__mro__ for name in vars(base)}:
            raise ValueError(
                f"Class '{cls.__name__}' with @serve.ingress may not define `__call__`: its HTTP requests are answered "
                f"by the application that was given to @serve.ingress."
            )
        if app is None and not hasattr(cls, _HOOK):
            raise ValueError(
                f"@serve.ingress without an application needs a method `{_HOOK}` in class '{cls.__name__}'."
            )
        setattr(cls, _MARK, mark)
        return cls

    return decorate


def is_ingress(func_or_class: Any) -> bool:
    """Whether `@serve.ingress` was applied to the class, or to a base of it."""
    return inspect.isclass(func_or_class) and isinstance(getattr(func_or_class, _MARK, None), Ingress)


def build_app(instance: Any, *, shared: bool = False) -> ASGIApp | None:
    """The ASGI application of an instance, with its views bound to it; None when its class is no ingress.

    To be called once for each process, because the application that the user wrote is completed in place. `shared`:
    other instances use it, too, so a copy is completed.
    """
    if not is_ingress(type(instance)):
        return None
    mark: Ingress = getattr(type(instance), _MARK)
    if hasattr(instance, _HOOK):
        app = getattr(instance, _HOOK)()
    else:
        app = mark.build() if mark.build is not None else mark.app
    if not callable(app):
        raise TypeError(
            f"The application of @serve.ingress must be an ASGI application, got {type(app).__name__}."
        )
    if _fastapi_routing() is not None:
        if shared:
            app = _copied(app)
        _bind_router(getattr(app, "router", app), instance)
        app = _as_application(app)
    if hasattr(app, "add_exception_handler"):
        app.add_exception_handler(BackPressureError, _answer_overload)
        app.add_exception_handler(DeploymentUnavailableError, _answer_overload)
    found: ASGIApp = app
    return found


def docs_path(app: Any) -> str | None:
    """Where a FastAPI application shows its documentation, None for others."""
    path = getattr(app, "docs_url", None)
    return path if isinstance(path, str) else None


# ---- FastAPI ---------------------------------------------------------------------------------------------------


def _fastapi_routing() -> Any:
    return sys.modules.get("fastapi.routing")


def _as_application(app: Any) -> Any:
    """An APIRouter answers only as a part of an application, so it gets one."""
    routing = _fastapi_routing()
    if routing is None or not isinstance(app, routing.APIRouter):
        return app
    application = sys.modules["fastapi"].FastAPI()
    application.include_router(app)
    return application


def _copied(app: Any) -> Any:
    """An application or router with routes of its own; everything else is that of the original."""
    router = getattr(app, "router", None)
    if not isinstance(router, _fastapi_routing().APIRouter):
        return _copied_router(app) if isinstance(app, _fastapi_routing().APIRouter) else app
    copied = copy.copy(app)
    copied.router = _copied_router(router)
    copied.middleware_stack = None
    copied.exception_handlers = dict(app.exception_handlers)
    # The routes of the documentation belong to an application, so they are made anew, in the same place.
    routes, copied.router.routes = copied.router.routes, []
    copied.setup()
    paths = {route.path for route in copied.router.routes}
    copied.router.routes += [route for route in routes if getattr(route, "path", "") not in paths]
    return copied


def _copied_router(router: Any) -> Any:
    copied = copy.copy(router)
    if getattr(router, "middleware_stack", None) == router.app:
        copied.middleware_stack = copied.app  # else requests would go to the original's routes
    for name in ("routes", "_low_priority_routes"):
        if isinstance(routes := getattr(router, name, None), list):
            setattr(copied, name, [_copied_route(route) for route in routes])
    return copied


def _copied_route(route: Any) -> Any:
    included = getattr(route, "original_router", None)
    return route if included is None else type(route)(_copied_router(included), route.include_context)


def _bind_router(router: Any, instance: Any) -> None:
    """Binds the views of a router and of those that it includes, which newer versions of FastAPI keep as they are."""
    own = {
        member
        for cls in type(instance).__mro__
        for member in vars(cls).values()
        if inspect.isfunction(member)
    }
    for routes in (getattr(router, "routes", None), getattr(router, "_low_priority_routes", None)):
        if isinstance(routes, list):
            _bind_views(routes, own, instance)


def _bind_views(routes: list[Any], own: set[Any], instance: Any) -> None:
    """Replaces routes written on methods of the class by routes to the bound methods; drops those of other classes."""
    bound = []
    for route in routes:
        endpoint = getattr(route, "endpoint", None)
        if not inspect.isfunction(endpoint):
            if (included := getattr(route, "original_router", None)) is not None:
                _bind_router(included, instance)
            bound.append(route)
        elif endpoint in own:
            bound.append(_rebuild(route, endpoint.__get__(instance)))
        elif not _is_view(endpoint):
            bound.append(route)
    routes[:] = bound


def _is_view(endpoint: Any) -> bool:
    """Whether a function was written in the body of a class: another ingress class that shares the application."""
    owner = endpoint.__qualname__.rpartition(".")[0]
    parameters = list(inspect.signature(endpoint).parameters)
    return bool(owner) and not owner.endswith("<locals>") and parameters[:1] == ["self"]


def _rebuild(route: Any, endpoint: Callable[..., Any]) -> Any:
    """The same route to another endpoint: its constructor's parameters are also its attributes, in every version."""
    routing = _fastapi_routing()
    base = routing.APIWebSocketRoute if isinstance(route, routing.APIWebSocketRoute) else routing.APIRoute
    if not isinstance(route, base):
        return type(route)(route.path, endpoint, name=route.name)
    settings = {
        name: getattr(route, name)
        for name in inspect.signature(base.__init__).parameters
        if name not in ("self", "path", "endpoint") and hasattr(route, name)
    }
    return type(route)(route.path, endpoint, **settings)


async def _answer_overload(_request: Any, error: Any) -> Any:
    """What a route answers that lets an overload of a deployment it calls escape."""
    from starlette.responses import PlainTextResponse  # an ingress without Starlette never comes here

    headers = {}
    if getattr(error, "retry_after_s", None) is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after_s))
    return PlainTextResponse(error.message, getattr(error, "status_code", 503), headers)


# ---- what is given ---------------------------------------------------------------------------------------------


def _is_builder(app: Any) -> bool:
    """A plain function without required parameters builds the application; one with three of them is it."""
    if not inspect.isfunction(app) or inspect.iscoroutinefunction(app):
        return False
    parameters = inspect.signature(app).parameters.values()
    return not any(
        parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        for parameter in parameters
    )


def _teach_pickle() -> None:
    """Applications of scripts travel by value, and some of their parts do not know how.

    Starlette's State recurses without end when it is unpickled; FastAPI's included routers hold a lock.
    """
    structures = sys.modules.get("starlette.datastructures")
    if structures is not None:
        copyreg.pickle(structures.State, _reduce_state)
    included = getattr(_fastapi_routing(), "_IncludedRouter", None)
    if included is not None:
        copyreg.pickle(included, _reduce_included)


def _reduce_state(state: Any) -> tuple[Any, ...]:
    return type(state), (dict(state._state),)


def _reduce_included(route: Any) -> tuple[Any, ...]:
    return type(route), (route.original_router, route.include_context)
