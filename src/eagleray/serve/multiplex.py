"""Many models in one deployment: `@serve.multiplexed` makes a loading function a cache of models in each replica.

Requests for a model that is loading wait for that one load; loads of different models run beside one another; a model
that a request has got stays until the request has ended. `serve.lru` decides, this module performs: loads and unloads
are tasks of the cache, so a caller that is cancelled takes nobody else's model with it.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Hashable
from time import monotonic
from typing import Any

from eagleray.base.errors import EaglerayError
from eagleray.base.tasks import Tasks
from eagleray.serve.context import (
    RequestContext,
    _serve_batch_request_context,
    _serve_request_context,
    current_process,
    current_request,
)
from eagleray.serve.finalize import finalize
from eagleray.serve.lru import LOADED, Load, Places, Unload
from eagleray.serve.model_metrics import ModelMetrics

logger = logging.getLogger("ray.serve")

LoadFunction = Callable[[str], Awaitable[Any]]
MakeMetrics = Callable[[Callable[[], int]], ModelMetrics]
"""Gets what says how many models there are, in any thread."""
OnChange = Callable[[list[str], int], object]
"""Gets the ids of all models that are loaded or loading, most recently used last, and how many more have a place (-1:
any number)."""


def get_multiplexed_model_id() -> str:
    """The model that the present request names: by header `serve_multiplexed_model_id`, or by
    `handle.options(multiplexed_model_id=...)`. "" when it names none.
    """
    return current_request().multiplexed_model_id


def multiplexed(func: Any = None, max_num_models_per_replica: int = 3) -> Any:
    """Decorates `async def load(model_id)`, or such a method, so that its result is kept for later requests.

    Each replica keeps at most `max_num_models_per_replica` models (-1: all), those that are loading included; the
    least recently used one that no request has goes first, after its `__del__` has run. Raises TypeError for what is
    not such a function and for a number that is none, ValueError for one that is neither positive nor -1.
    """
    if func is not None:
        _check_function(func)
    if not isinstance(max_num_models_per_replica, int):
        raise TypeError(f"max_num_models_per_replica must be an integer, got {max_num_models_per_replica!r}.")
    if max_num_models_per_replica <= 0 and max_num_models_per_replica != -1:
        raise ValueError(
            f"max_num_models_per_replica must be positive, or -1 for no limit, got {max_num_models_per_replica}."
        )

    def decorate(function: Any) -> Any:
        _check_function(function)
        return _wrap(function, max_num_models_per_replica)

    return decorate if func is None else decorate(func)


def _check_function(func: Any) -> None:
    if not callable(func):
        raise TypeError(f"@serve.multiplexed must be applied to a function or method, got {func!r}.")
    if not inspect.iscoroutinefunction(func):
        raise TypeError(f"@serve.multiplexed needs an `async def`; {func.__name__!r} is none.")
    if not 1 <= len(inspect.signature(func).parameters) <= 2:
        raise TypeError(
            f"@serve.multiplexed needs a function of (model_id) or a method of (self, model_id); {func.__name__!r} "
            f"takes {inspect.signature(func)}."
        )


def _wrap(function: Callable[..., Awaitable[Any]], capacity: int) -> Any:
    is_method = len(inspect.signature(function).parameters) == 2
    # By the qualified name: a method that overrides another one and calls it has models of its own.
    attribute = f"_eagleray_models_{function.__qualname__}"

    @functools.wraps(function)
    async def get(*args: Any) -> Any:
        given = args[1:] if is_method else args
        if len(given) != 1:
            raise TypeError(
                f"{function.__name__}() takes exactly one argument, the id of a model; {len(given)} were given."
            )
        host = _host(function.__name__)
        (model_id,) = given
        if not isinstance(model_id, str):
            raise TypeError(f"The id of a model must be a str, got {model_id!r}.")
        if not model_id:
            raise ValueError(
                "The id of a model must not be empty: the request names none, neither by the header "
                "serve_multiplexed_model_id nor by handle.options(multiplexed_model_id=...)."
            )
        if not model_id.isascii():
            _check_encodable(model_id)
        owner = args[0] if is_method else get
        cache = getattr(owner, attribute, None)
        if cache is None or cache.host is not host:
            load = functools.partial(function, owner) if is_method else function
            cache = ModelCache(load, capacity, host)
            setattr(owner, attribute, cache)
        return await cache.get(model_id)

    get._eagleray_multiplexed = True  # type: ignore[attr-defined]
    return get


def _check_encodable(model_id: str) -> None:
    """Routers are told the ids of models as UTF-8, which knows no lone surrogates."""
    try:
        model_id.encode()
    except UnicodeEncodeError:
        raise ValueError(f"The id of a model must be text that UTF-8 can encode, got {model_id!r}.") from None


def _host(name: str) -> ModelHost:
    replica = current_process().replica
    if replica is None:
        raise RuntimeError(
            f"{name}() is a `@serve.multiplexed` function: it may only be called in a replica."
        )
    if replica._models is None:
        replica._models = ModelHost()
    host: ModelHost = replica._models
    return host


def declares_models(target: Callable[..., Any]) -> bool:
    """Whether a deployment's class has a multiplexed method, or its function calls a multiplexed function."""
    if inspect.isclass(target):
        found = [value for base in target.__mro__ for value in vars(base).values()]
    else:
        code = getattr(target, "__code__", None)
        names = code.co_names if code is not None else ()
        found = [getattr(target, "__globals__", {}).get(name) for name in names]
    return any(getattr(value, "_eagleray_multiplexed", False) is True for value in found)


class ModelHost:
    """All model caches of one replica. `on_change` is called whenever a model comes or goes, on the replica's loop;
    `count` makes the metrics when there is a cache.
    """

    def __init__(self, on_change: OnChange | None = None, count: MakeMetrics | None = None) -> None:
        self.metrics: ModelMetrics | None = None
        self._count = count
        self._on_change = on_change
        self._caches: list[ModelCache] = []

    def add(self, cache: ModelCache) -> None:
        self._caches.append(cache)
        if self.metrics is None and self._count is not None:
            self.metrics = self._count(lambda: sum(cache.loaded for cache in tuple(self._caches)))

    def changed(self) -> None:
        """Tells what there is now."""
        if self._on_change is not None:
            models = [model_id for cache in self._caches for model_id in cache.places.present]
            free = [cache.places.free for cache in self._caches]
            self._on_change(models, -1 if -1 in free else sum(free))

    async def close(self) -> None:
        """Unloads everything; loads that are under way are given up. Idempotent."""
        caches, self._caches = self._caches, []
        await asyncio.gather(*(cache.close() for cache in caches))


class ModelCache:
    """The models of one `@serve.multiplexed` function in one replica. Belongs to the loop of the first call."""

    def __init__(self, load: LoadFunction, capacity: int, host: ModelHost) -> None:
        self.host = host
        self.places = Places(capacity)
        self._load_function = load
        self._models: dict[str, Any] = {}
        self._arrivals: dict[str, asyncio.Future[Any]] = {}
        self._batches: dict[Hashable, set[Hashable]] = {}
        """What stands for a batch -> its requests that have not ended."""
        self._loads = Tasks("models")
        self._unloads = Tasks("models")
        self._loop = asyncio.get_running_loop()
        self._closed = False
        host.add(self)

    async def get(self, model_id: str) -> Any:
        """The model, loaded if need be; it stays for as long as the present request runs. Raises what
        loading raised.
        """
        if asyncio.get_running_loop() is not self._loop:  # sync user code that runs a loop of its own
            return await asyncio.wrap_future(
                asyncio.run_coroutine_threadsafe(self._get(model_id), self._loop)
            )
        return await self._get(model_id)

    async def _get(self, model_id: str) -> Any:
        holder = current_request()
        if holder.children is not None:
            holder.hold(self)
        elif not self._hold_for_batch(holder):
            # Nobody knows when this caller ends, so it keeps the model for the time of the call only.
            holder = RequestContext()
        try:
            return await self._get_for(model_id, holder)
        finally:
            if holder.children is None and holder not in self._batches:  # it has ended, or was never one
                self.release(holder)

    def _hold_for_batch(self, body: RequestContext) -> bool:
        """In the body of a batch a model is for all of its requests, and stays until the last one has ended."""
        requests = {one for one in _serve_batch_request_context.get() if one.children is not None}
        if not requests:
            return False
        self._batches.setdefault(body, set()).update(requests)
        for request in requests:
            request.hold(self)
        return True

    async def _get_for(self, model_id: str, holder: Hashable) -> Any:
        if self._closed:
            raise EaglerayError(f"Model '{model_id}' is not loaded: the replica is stopping.")
        is_there, metrics = self.places.get(model_id, holder), self.host.metrics
        if metrics is not None:
            metrics.requested(is_there)
        if is_there:
            return self._models[model_id]
        arrival = self._arrivals.get(model_id)
        if arrival is None:
            arrival = self._arrivals[model_id] = self._loop.create_future()
        self._perform()
        try:
            # Many wait for one arrival, and one that is cancelled must not cancel it.
            return await asyncio.shield(arrival)
        except asyncio.CancelledError:
            self.places.give_up(model_id, holder)
            if not self.places.is_coming(model_id):
                self._arrivals.pop(model_id, None)
            self._perform()
            raise

    def release(self, holder: Hashable) -> None:
        """A request has ended: the models that it got may go."""
        self.places.release(holder)
        for body, requests in list(self._batches.items()):
            requests.discard(holder)
            if not requests:
                del self._batches[body]
                self.places.release(body)
        if self._arrivals:
            self._perform()

    def _perform(self) -> None:
        steps = () if self._closed else self.places.plan()
        for step in steps:
            if isinstance(step, Load):
                self._begin_load(step.model_id)
            else:
                self._begin_unload(step)
        if steps:
            self.host.changed()

    # ---- loading ---------------------------------------------------------------------------------------------

    def _begin_load(self, model_id: str) -> None:
        """Not as a child of the request that happens to be first: others wait for the same model."""
        first = current_request()
        context = contextvars.copy_context()
        request = RequestContext(
            first.request_id,
            first.route,
            first.app_name,
            traceparent=first.traceparent,
            multiplexed_model_id=model_id,
        )
        context.run(_serve_request_context.set, request)
        self._loads.start(self._load(model_id), name=f"load {model_id}", context=context)

    async def _load(self, model_id: str) -> None:
        """A task's root."""
        begun_at, metrics = monotonic(), self.host.metrics
        if metrics is not None:
            metrics.load_begun()
        try:
            model = await self._load_function(model_id)
        except asyncio.CancelledError:
            self._failed(model_id, EaglerayError(f"Loading model '{model_id}' was cancelled."))
            self._perform()  # the function may have cancelled itself: others wait for the place
            raise
        except BaseException as error:  # user code may raise anything; it goes to all who wait
            self._failed(model_id, error)
        else:
            self._models[model_id] = model
            self.places.loaded(model_id)
            if metrics is not None:
                metrics.loaded(model_id, monotonic() - begun_at)
            arrival = self._arrivals.pop(model_id, None)
            if arrival is not None:
                arrival.set_result(model)
        self._perform()

    def _failed(self, model_id: str, error: BaseException) -> None:
        self.places.failed(model_id)
        arrival = self._arrivals.pop(model_id, None)
        if arrival is not None:
            arrival.set_exception(error)
            arrival.exception()  # those who wait may all have been cancelled
        self.host.changed()

    # ---- unloading -------------------------------------------------------------------------------------------

    def _begin_unload(self, step: Unload) -> None:
        if self.places.is_pinned(step.model_id):
            logger.warning(
                "Model '%s' is unloaded although a request that got it still runs: the requests that run need more "
                "models at once than max_num_models_per_replica=%d.",
                step.model_id,
                self.places.capacity,
            )
        self._unloads.start(self._unload(step.model_id), name=f"unload {step.model_id}")

    async def _unload(self, model_id: str) -> None:
        """A task's root."""
        begun_at, metrics = monotonic(), self.host.metrics
        await self._finalize(model_id)
        if metrics is not None:
            metrics.unloaded(model_id, monotonic() - begun_at)
        self.places.unloaded(model_id)
        self._perform()

    async def _finalize(self, model_id: str) -> None:
        model = self._models.pop(model_id)
        if any(model is other for other in self._models.values()):
            return  # one object under two ids: it is still in use
        try:
            await finalize(model)
        except asyncio.CancelledError:
            raise
        except BaseException:  # user code may raise anything
            logger.exception("`__del__` of model '%s' has failed.", model_id)

    async def close(self) -> None:
        """Unloads everything, pinned or not: requests have ended. Loads that are under way are cancelled."""
        self._closed = True
        await self._loads.close()
        for step in self.places.evacuate():
            self._unloads.start(self._unload(step.model_id), name=f"unload {step.model_id}")
        await self._unloads.join()
        arrivals, self._arrivals = self._arrivals, {}
        for model_id, arrival in arrivals.items():
            if not arrival.done():
                arrival.set_exception(
                    EaglerayError(f"Model '{model_id}' is not loaded: the replica is stopping.")
                )
                arrival.exception()

    @property
    def loaded(self) -> int:
        """How many models there are."""
        return len(self._models)

    def holds(self, model_id: str) -> bool:
        """Whether the model is loaded."""
        return self.places.state(model_id) == LOADED
