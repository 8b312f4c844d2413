"""`@serve.batch`: callers pass one item each, the body gets a list of them and returns a list of results.

The decorator makes a function that looks like the one it wraps and a `Batcher`, which holds the settings and finds the
queue of the running loop. Queues belong to a function and a loop: instances of a class share the settings and the limit
of concurrent batches, but never a batch, and neither do loops. Works anywhere in asyncio, with or without a replica.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import get_ident
from typing import Any

from eagleray.serve.batch_item import Item
from eagleray.serve.batch_metrics import BatchMetrics
from eagleray.serve.batch_queue import BatchQueue
from eagleray.serve.context import current_process

BATCHER = "__serve_batcher__"
"""Attribute of a batched function: its `Batcher`."""


@dataclass
class BatchSettings:
    """What the decorator was given; the setters change it."""

    max_batch_size: int
    batch_wait_timeout_s: float
    max_concurrent_batches: int
    batch_size_fn: Callable[[list[Any]], float] | None
    isolate_errors: bool
    latency_target_s: float | None


@dataclass
class _RuntimeSummaryStatistics:
    """Start times of the batches that run now, in seconds of wall time."""

    start_times: list[float]

    @property
    def min_start_time(self) -> float | None:
        return min(self.start_times, default=None)

    @property
    def mean_start_time(self) -> float | None:
        return sum(self.start_times) / len(self.start_times) if self.start_times else None

    @property
    def max_start_time(self) -> float | None:
        return max(self.start_times, default=None)

    @property
    def num_requests(self) -> int:
        return len(self.start_times)


class Batcher:
    """A batched function: its body, settings and queues. Its pickle holds no queue."""

    def __init__(self, function: Callable[..., Any], settings: BatchSettings) -> None:
        self.function = function
        self.settings = settings
        self.is_stream = inspect.isasyncgenfunction(function)
        self._methods: dict[type, bool] = {}
        self._queue: BatchQueue | None = None
        self._queues: dict[asyncio.AbstractEventLoop, BatchQueue] = {}

    def __getstate__(self) -> tuple[Callable[..., Any], BatchSettings]:
        return self.function, self.settings

    def __setstate__(self, state: tuple[Callable[..., Any], BatchSettings]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    @property
    def name(self) -> str:
        name: str = self.function.__qualname__
        return name

    @functools.cached_property
    def _names(self) -> list[str]:
        """Parameters that may be given by position as well as by name, `self` among them."""
        parameters = inspect.signature(self.function).parameters.values()
        return [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]

    # ---- calls -----------------------------------------------------------------------------------------------

    def put(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Item:
        """Lets a call wait for its batch; TypeError for one without an item."""
        queue = self._queue
        # As good as get_running_loop(), which asks the kernel for the process id in Python 3.11.
        if queue is None or queue.thread != get_ident() or not queue.loop.is_running():
            queue = self._open()
        owner = None
        if args:
            kind = type(args[0])
            is_method = self._methods.get(kind)
            if is_method or (is_method is None and self._is_method_of(kind)):
                owner, args = args[0], args[1:]
        if kwargs:
            args, kwargs = self._in_order(owner is not None, args, kwargs)
        if not args and not kwargs:
            raise TypeError(
                f"{self.name}() is batched and needs an item for each call: at least one argument."
            )
        return queue.put(owner, args, kwargs)

    def call(self, owner: Any, columns: Iterable[list[Any]], named: dict[str, list[Any]]) -> Any:
        """The body's coroutine or async generator for a batch."""
        if owner is None:
            return self.function(*columns, **named)
        return self.function(owner, *columns, **named)

    def _open(self) -> BatchQueue:
        """The queue of the running loop."""
        loop = asyncio.get_running_loop()
        for other in [other for other in self._queues if other.is_closed()]:
            del self._queues[other]
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = BatchQueue(self, loop)
            queue.metrics = BatchMetrics.here(self.function.__name__, self._waiting)
            self._declare()
        self._queue = queue
        return queue

    def _waiting(self) -> int:
        """Items that wait, from any thread."""
        return sum(queue.former.waiting for queue in tuple(self._queues.values()))

    def _is_method_of(self, cls: type) -> bool:
        """Whether this function is an attribute of the class, so that its first argument is an instance."""
        members = (member for base in cls.__mro__ for member in vars(base).values())
        known = self._methods[cls] = any(batcher_of(member) is self for member in members)
        return known

    def _in_order(
        self, is_method: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """`f(1, y=2)` as `f(1, 2)`, so that both may share a batch."""
        left = dict(kwargs)
        for name in self._names[len(args) + is_method :]:
            if name not in left:
                break
            args = (*args, left.pop(name))
        return args, left

    # ---- capacity --------------------------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """How many items its running batches hold at most."""
        return self.settings.max_batch_size * self.settings.max_concurrent_batches

    def _declare(self) -> None:
        declare = current_process().declare_batcher
        if declare is not None:
            declare(self)

    # ---- setters and getters, also from other threads --------------------------------------------------------

    def set_max_batch_size(self, new_max_batch_size: int) -> None:
        """Counts from the next batch; TypeError or ValueError as in the decorator."""
        self.settings.max_batch_size = _checked_size(new_max_batch_size)
        self._changed()

    def set_batch_wait_timeout_s(self, new_batch_wait_timeout_s: float) -> None:
        """Counts from the next batch; TypeError or ValueError as in the decorator."""
        self.settings.batch_wait_timeout_s = _checked_wait(new_batch_wait_timeout_s)
        self._changed()

    def _changed(self) -> None:
        for loop, queue in tuple(self._queues.items()):
            try:
                loop.call_soon_threadsafe(queue.settings_changed)
            except RuntimeError:
                pass  # that loop has ended
        self._declare()

    def get_max_batch_size(self) -> int:
        return self.settings.max_batch_size

    def get_batch_wait_timeout_s(self) -> float:
        return self.settings.batch_wait_timeout_s

    def get_curr_iteration_start_times(self) -> _RuntimeSummaryStatistics:
        return _RuntimeSummaryStatistics(
            [start for queue in self._queues.values() for start in queue.start_times]
        )

    async def is_batching_task_alive(self) -> bool:
        """Whether this loop has had a call: no task stands by that could die, so from then on batches are formed."""
        return asyncio.get_running_loop() in self._queues

    async def get_handling_task_stack(self) -> str | None:
        """Where the running batches of this loop are; None before the first call."""
        queue = self._queues.get(asyncio.get_running_loop())
        return None if queue is None else queue.stacks()


def batch(
    _func: Callable[..., Any] | None = None,
    /,
    max_batch_size: int = 10,
    batch_wait_timeout_s: float = 0.01,
    max_concurrent_batches: int = 1,
    batch_size_fn: Callable[[list[Any]], float] | None = None,
    *,
    isolate_errors: bool = False,
    latency_target_s: float | None = None,
) -> Callable[..., Any]:
    """Batches the calls of an `async def` function or method, or of an async generator that yields lists.

    A batch starts with `max_batch_size` items, or `batch_wait_timeout_s` seconds after its first one came;
    `max_concurrent_batches` of them run at a time. `batch_size_fn(items)` gives the size of a batch instead of its
    number of items. The body must return as many results as it got items; an exception object among them goes to its
    caller only.

    `isolate_errors`: when the body raises, it is run again with halves of the batch, so that only guilty items fail.
    `latency_target_s`: seconds from call to answer; size and wait are learned to keep it, within the limits above.

    Raises TypeError or ValueError for unfit settings and TypeError for what is not async.
    """
    if _func is not None:
        if not callable(_func):
            raise TypeError("@serve.batch can only be used to decorate functions or methods.")
        if not inspect.iscoroutinefunction(_func):
            raise TypeError(
                f"Functions decorated with @serve.batch must be 'async def', got {_func!r}. An async generator needs "
                f"parentheses: @serve.batch()."
            )
    settings = BatchSettings(
        _checked_size(max_batch_size),
        _checked_wait(batch_wait_timeout_s),
        _checked_concurrency(max_concurrent_batches),
        _checked_size_fn(batch_size_fn),
        _checked_flag(isolate_errors),
        _checked_target(latency_target_s),
    )

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)):
            raise TypeError(f"Functions decorated with @serve.batch must be 'async def', got {function!r}.")
        if latency_target_s is not None and inspect.isasyncgenfunction(function):
            raise TypeError(
                f"latency_target_s is for functions that return: {function.__qualname__} is an async generator."
            )
        return _wrap(Batcher(function, BatchSettings(**vars(settings))))

    return decorate if _func is None else decorate(_func)


def batcher_of(member: Any) -> Batcher | None:
    """The Batcher of a batched function, bound or not, also below other decorators that use functools.wraps."""
    seen = 0
    while member is not None and seen < 32:
        try:
            found = vars(member).get(BATCHER)
        except TypeError:
            return batcher_of(member.__func__) if inspect.ismethod(member) else None
        if found is not None:
            return found if isinstance(found, Batcher) else None
        member = getattr(member, "__wrapped__", None)
        seen += 1
    return None


def _wrap(batcher: Batcher) -> Callable[..., Any]:
    """The function that callers see. It names no global: scripts send it by value."""
    if batcher.is_stream:

        def batched_stream(*args: Any, **kwargs: Any) -> Any:
            return batcher.put(args, kwargs).iterate()  # type: ignore[attr-defined]

        wrapped: Any = functools.wraps(batcher.function)(batched_stream)
    else:

        async def batched(*args: Any, **kwargs: Any) -> Any:
            item = batcher.put(args, kwargs)
            try:
                return await item.future
            except BaseException:
                item.leave()
                raise

        wrapped = functools.wraps(batcher.function)(batched)
    setattr(wrapped, BATCHER, batcher)
    wrapped.set_max_batch_size = batcher.set_max_batch_size
    wrapped.set_batch_wait_timeout_s = batcher.set_batch_wait_timeout_s
    wrapped._get_max_batch_size = batcher.get_max_batch_size
    wrapped._get_batch_wait_timeout_s = batcher.get_batch_wait_timeout_s
    wrapped._get_curr_iteration_start_times = batcher.get_curr_iteration_start_times
    wrapped._is_batching_task_alive = batcher.is_batching_task_alive
    wrapped._get_handling_task_stack = batcher.get_handling_task_stack
    found: Callable[..., Any] = wrapped
    return found


# ---- validation --------------------------------------------------------------------------------------------------


def _checked_size(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int):
        raise TypeError(f"max_batch_size must be an integer >= 1, got {value!r}.")
    if value < 1:
        raise ValueError(f"max_batch_size must be an integer >= 1, got {value!r}.")
    return value


def _checked_wait(value: Any) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"batch_wait_timeout_s must be a number >= 0, got {value!r}.")
    if value < 0 or math.isnan(value):
        raise ValueError(f"batch_wait_timeout_s must be a number >= 0, got {value!r}.")
    return value


def _checked_concurrency(value: Any) -> int:
    if not isinstance(value, int) or value < 1:
        raise TypeError(f"max_concurrent_batches must be an integer >= 1, got {value!r}.")
    return value


def _checked_size_fn(value: Any) -> Any:
    if value is not None and not callable(value):
        raise TypeError(f"batch_size_fn must be callable or None, got {value!r}.")
    return value


def _checked_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"isolate_errors must be True or False, got {value!r}.")
    return value


def _checked_target(value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float):
        raise TypeError(f"latency_target_s must be a number > 0 or None, got {value!r}.")
    if not value > 0 or math.isinf(value):
        raise ValueError(f"latency_target_s must be a number > 0 or None, got {value!r}.")
    return value
