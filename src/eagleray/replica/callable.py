"""The user's class or function: made once, looked up once for each method, and told what happens to its replica.

What can be known before the first call is computed before it: whether a method is a coroutine, runs in a thread,
takes arguments. Hooks never raise: they return the user's traceback as text, because whatever user code raises,
SystemExit included, is a fact about the user's code and not an event of ours.

Belongs to the user's loop.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

from eagleray.base import ray_names
from eagleray.base.errors import EaglerayError
from eagleray.base.threads import run_in_new_thread
from eagleray.http.asgi import ASGIApp, Lifespan
from eagleray.replica.errors import trimmed_text
from eagleray.replica.finalizer import finalizer_of, forget_finalizer
from eagleray.replica.typed import TypedEntry, UnusableAnnotation, describe, typed_entry
from eagleray.serve.batching import batcher_of
from eagleray.serve.ingress import build_app

logger = logging.getLogger("ray.serve")

CALL = "__call__"


class Method:
    """A callable with all that a call must know of it. Neither `is_async` nor `in_thread`: it is called on the loop."""

    __slots__ = ("function", "in_thread", "is_async", "name", "takes_arguments", "typed")

    def __init__(self, name: str, function: Callable[..., Any], threads: bool) -> None:
        code = _code_of(function)
        self.name = name
        self.function = function
        self.is_async = inspect.iscoroutinefunction(code)
        self.in_thread = threads and not self.is_async and not inspect.isasyncgenfunction(code)
        self.takes_arguments = _takes_arguments(function)
        self.typed: TypedEntry | None = None
        """What `function` is then: it decodes the request by the annotations."""


def _code_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function behind partials, callable objects and `@serve.batch`."""
    while isinstance(function, functools.partial):
        function = function.func
    batcher = batcher_of(function)
    if batcher is not None:
        return batcher.function
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    called: Callable[..., Any] = type(function).__call__
    return called


def _takes_arguments(function: Callable[..., Any]) -> bool:
    try:
        return bool(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # written in C without a signature
        return True


class UserCode:
    """One instance of a deployment. `threads`: sync methods run in threads, else on the user's loop.

    `shared`: this process has other instances of the target, so nothing of it may be changed.
    """

    def __init__(
        self, name: str, target: Callable[..., Any], *, threads: bool = True, shared: bool = False
    ) -> None:
        self.name = name
        self.known: dict[str, Method] = {}
        self.entry: Method | None = None
        self.app: ASGIApp | None = None
        self.lifespan: Lifespan | None = None
        self.instance: Any = None
        self.on_made: Callable[[Any], object] = _nothing
        self.is_reconfiguring = False
        """User code may block its loop meanwhile, as in its constructor: that is no sign of ill health."""
        self._typed: tuple[Callable[..., Any], TypedEntry | None] | None = None
        self._target = target
        self._threads = threads
        self._shared = shared
        self._is_class = inspect.isclass(target)
        self._deleted = False

    # ---- calls -----------------------------------------------------------------------------------------------

    def find(self, name: str) -> Method:
        """The method that a call names; "" is `__call__`. Raises EaglerayError that lists what there is.

        A function has no methods: it is called whatever the name says.
        """
        method = self._entry() if name in ("", CALL) or not self._is_class else self._named(name)
        if method is None:
            raise EaglerayError(self.no_entry() if name in ("", CALL) else self._no_method(name))
        self.known[name] = method
        return method

    def _entry(self) -> Method | None:
        if not self._is_class:
            return Method(self._target.__name__, self.instance, self._threads)
        for name in (CALL, "predict"):
            # Not getattr, which finds `type.__call__` on every class.
            if any(name in vars(base) for base in type(self.instance).__mro__):
                return Method(name, getattr(self.instance, name), self._threads)
        return None

    def _http_entry(self) -> Method | None:
        """The entry as HTTP requests call it. Calls by handle bring Python values, so for them it is another."""
        method = self._entry()
        if method is not None:
            if self._typed is None or self._typed[0] != method.function:
                self._typed = method.function, self._read_annotations(method.function)
            method.typed = self._typed[1]
            method.function = method.typed or method.function
        return method

    def _read_annotations(self, function: Callable[..., Any]) -> TypedEntry | None:
        try:
            return typed_entry(function, batched=batcher_of(function) is not None)
        except UnusableAnnotation as problem:
            logger.warning(
                "Deployment '%s' gets Starlette's request instead of typed arguments: %s. Import the type where the "
                "class is defined, or annotate the parameter as starlette.requests.Request.",
                self.name,
                problem,
            )
            return None

    def describe(self, path: str) -> dict[str, Any] | None:
        """The OpenAPI document of the deployment at `path`; None for an ASGI application that has none."""
        if self.app is not None:
            openapi = getattr(self.app, "openapi", None)  # FastAPI's
            return dict(openapi()) if callable(openapi) else None
        if self._typed is None:
            return describe(self.name, "", path, None, None)
        function, typed = self._typed
        return describe(self.name, inspect.getdoc(self._target) or "", path, typed, function)

    def _named(self, name: str) -> Method | None:
        if not self._is_class or name.startswith("__"):
            return None
        function = getattr(self.instance, name, None)
        return Method(name, function, self._threads) if callable(function) else None

    @property
    def methods(self) -> list[str]:
        """Names of the methods that a handle can call."""
        if not self._is_class:
            return [CALL]
        found = [
            name for name, _ in inspect.getmembers(type(self.instance), callable) if not name.startswith("__")
        ]
        return [CALL, *found] if CALL in dir(type(self.instance)) else found

    def no_entry(self) -> str:
        """Why a call without a method name cannot be answered."""
        return (
            f"Deployment '{self.name}' was called, but its class has neither `__call__` nor `predict`. "
            f"Available methods: {self.methods}."
        )

    def _no_method(self, name: str) -> str:
        return f"Deployment '{self.name}' has no method '{name}'. Available methods: {self.methods}."

    # ---- hooks -----------------------------------------------------------------------------------------------

    async def start(self, args: tuple[Any, ...], kwargs: dict[str, Any], user_config: Any, rank: int) -> str:
        """Constructs, starts the ASGI application, configures. Returns the error for the user, or ""."""
        try:
            await self._construct(args, kwargs)
            self.on_made(self.instance)
            self.app = build_app(self.instance, shared=self._shared)
            if self.app is not None:
                self.lifespan = Lifespan(self.app)
                await self.lifespan.startup()
            else:
                self.entry = self._http_entry()
            if user_config is not None or self.wants_rank:
                await self._reconfigure(user_config, rank)
        except BaseException as error:  # see the module's docstring
            return _explain_start(error)
        return ""

    async def _construct(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        target = self._target
        if not inspect.isclass(target):
            if args or kwargs:
                raise ValueError(f"Function deployment '{self.name}' takes no bound arguments.")
            self.instance = target
        elif inspect.iscoroutinefunction(target.__init__):
            self.instance = target.__new__(target)
            await self.instance.__init__(*args, **kwargs)
        else:
            self.instance = target(*args, **kwargs)

    @property
    def wants_rank(self) -> bool:
        """Whether the user's `reconfigure` is to hear of a changed rank."""
        return self._is_class and _takes_rank(getattr(self.instance, "reconfigure", None))

    async def reconfigure(self, user_config: Any, rank: int) -> str:
        """Hands a new `user_config` to the user's `reconfigure`. Returns the error for the user, or ""."""
        self.is_reconfiguring = True
        try:
            await self._reconfigure(user_config, rank)
        except BaseException as error:  # see the module's docstring
            return trimmed_text(error)
        finally:
            self.is_reconfiguring = False
        return ""

    async def _reconfigure(self, user_config: Any, rank: int) -> None:
        if not self._is_class:
            raise ValueError(f"Function deployment '{self.name}' cannot have a user_config.")
        function = getattr(self.instance, "reconfigure", None)
        if function is None:
            problem = f"user_config was given to deployment '{self.name}', but its class has no `reconfigure` method."
            if not ray_names.is_installed():
                raise EaglerayError(problem)
            logger.warning("%s It is ignored.", problem)  # articles for Ray have such programs
            return
        await _call(function, user_config, **({"rank": rank} if _takes_rank(function) else {}))
        # `reconfigure` may have put other callables in place of methods.
        self.known.clear()
        if self.app is None:
            self.entry = self._http_entry()

    async def check_health(self) -> str:
        """Runs the user's `check_health`, if there is one. Returns why the replica is unhealthy, or ""."""
        function = getattr(self.instance, "check_health", None) if self._is_class else None
        if function is None:
            return ""
        try:
            await _call(function)
        except BaseException as error:  # see the module's docstring
            return trimmed_text(error)
        return ""

    async def stop(self) -> str:
        """Ends the ASGI application and runs `__del__`, once. Returns what went wrong, or ""."""
        problem = ""
        if self.lifespan is not None:
            problem = await self.lifespan.shutdown()
        if self._deleted or not self._is_class or self.instance is None:
            return problem
        self._deleted = True
        delete = finalizer_of(self.instance)
        if delete is None:
            return problem
        try:
            outcome = delete(self.instance)
            if inspect.isawaitable(outcome):
                await outcome
        except BaseException as error:  # see the module's docstring
            problem = trimmed_text(error)
        forget_finalizer(self.instance)
        return problem


def _nothing(_: object) -> None:
    """Stands in for a `__del__` that has run."""


def _takes_rank(function: Callable[..., Any] | None) -> bool:
    if function is None:
        return False
    try:
        return "rank" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


async def _call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Runs a hook: coroutines here, sync functions in a thread, so that they do not stop the requests."""
    if inspect.iscoroutinefunction(_code_of(function)):
        return await function(*args, **kwargs)
    result = await run_in_new_thread(functools.partial(function, *args, **kwargs))
    return await result if inspect.isawaitable(result) else result


def _explain_start(error: BaseException) -> str:
    text = trimmed_text(error)
    if isinstance(error, TypeError) and ".__init__() " in text and "Traceback" not in text:
        name = str(error).partition(".__init__")[0]
        text = f"{text.rstrip()}\nThe constructor's arguments are those of `bind`: `{name}.bind(...)`."
    return text
