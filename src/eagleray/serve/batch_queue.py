"""The running side of `@serve.batch` on one event loop: callers' items in, one task for each batch, answers out.

No task stands by: whatever happens (an item comes, a timer fires, a batch ends) asks the former whether a batch
should start now. So there is no loop that user code could kill, and nothing to supervise. An item costs one future.

A batch runs outside the context of its callers: it serves all of them, so it must end with none of them and see the
context variables of none. Its request context is made of theirs, see `batch_item`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from contextvars import Context
from threading import get_ident
from traceback import StackSummary
from types import FrameType
from typing import TYPE_CHECKING, Any

from eagleray.base.errors import EaglerayError
from eagleray.base.tasks import Tasks
from eagleray.serve.batch_item import Item, StreamItem, columns_of, enter_batch, let_read, reject_all
from eagleray.serve.batch_metrics import BatchMetrics
from eagleray.serve.batch_policy import Batch, FixedPolicy, Former, Policy
from eagleray.serve.batch_target import TargetPolicy
from eagleray.serve.context import _serve_batch_request_context, current_process, current_request

if TYPE_CHECKING:
    from eagleray.serve.batching import Batcher

_SLACK_S = 0.0005
"""Timers of libuv count whole milliseconds and may be early by half of one."""

_TURNS = 3
"""Turns of the loop until calls that came while a batch blocked it wait here: read, start, call the function."""


class BatchQueue:
    """All callers of one batched function on one loop."""

    def __init__(self, batcher: Batcher, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.thread = get_ident()
        self._batcher = batcher
        self._settings = settings = batcher.settings
        self._policy: Policy
        self._target: TargetPolicy | None = None
        if settings.latency_target_s is None:
            self._policy = FixedPolicy(settings.max_batch_size, settings.batch_wait_timeout_s)
        else:
            self._policy = self._target = TargetPolicy(
                settings.latency_target_s,
                settings.max_batch_size,
                settings.batch_wait_timeout_s,
                settings.max_concurrent_batches,
            )
        measure = None if settings.batch_size_fn is None else self._measure
        self.former: Former[Item] = Former(self._policy, measure)
        self._tasks = Tasks(f"batch of {batcher.name}")
        self._running: dict[asyncio.Task[None], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._pumps_soon = False
        self.metrics: BatchMetrics | None = None
        """None: nothing is counted."""

    # ---- items -----------------------------------------------------------------------------------------------

    def put(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Item:
        """On the loop: lets a caller's item wait for a batch."""
        request = current_request()
        kind = StreamItem if self._batcher.is_stream else Item
        item = kind(self, owner, args, kwargs, request)
        key: tuple[Any, ...] = (id(owner), request.multiplexed_model_id, len(args))
        if kwargs:
            key += tuple(sorted(kwargs))
        is_full = self.former.add(key, item)
        if self._target is not None:
            self._target.arrived(1, item.arrived)
        if self.former.refused:
            self._refuse()
        if len(self._running) < self._settings.max_concurrent_batches:
            if is_full:
                self._pump()
            elif self._target is not None:
                self._pump_soon()
            elif self._timer is None:
                self._alarm(self._settings.batch_wait_timeout_s)
        return item

    def _refuse(self) -> None:
        refused, self.former.refused = self.former.refused, []
        for item, error in refused:
            item.reject(error)

    def _measure(self, items: Sequence[Item]) -> float:
        size_fn = self._settings.batch_size_fn
        assert size_fn is not None
        return size_fn([item.args[0] if item.args else next(iter(item.kwargs.values())) for item in items])

    def settings_changed(self) -> None:
        """On the loop: new settings count from the next batch."""
        policy, settings = self._policy, self._settings
        policy.max_size = settings.max_batch_size
        if isinstance(policy, FixedPolicy):
            policy.wait_s = settings.batch_wait_timeout_s
        elif isinstance(policy, TargetPolicy):
            policy.max_wait_s = settings.batch_wait_timeout_s
        self.former.resized()
        self._pump()

    # ---- batches ---------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Starts the batches that should start now, and sets the alarm for the next one."""
        self._pumps_soon = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        former, most = self.former, self._settings.max_concurrent_batches
        now = time.monotonic()
        while former.waiting and len(self._running) < most:
            batch = former.take(now + _SLACK_S)
            if batch is None:
                self._alarm(former.due - now)
                break
            self._start(batch)
        if former.refused:
            self._refuse()

    def _alarm(self, delay_s: float) -> None:
        if delay_s <= 0:
            self._pump_soon()
        elif delay_s < math.inf:
            self._timer = self.loop.call_later(delay_s, self._pump)

    def _pump_soon(self) -> None:
        """When all items of this turn of the loop are here."""
        if not self._pumps_soon:
            self._pumps_soon = True
            self.loop.call_soon(self._pump)

    def _start(self, batch: Batch[Item]) -> None:
        context = Context()
        span = context.run(enter_batch, [item.request for item in batch.items])
        run = self._run_stream if self._batcher.is_stream else self._run
        task = self._tasks.start(run(batch), name=f"{len(batch.items)} items", context=context)
        self._running[task] = time.time()
        if self.metrics is not None:
            most = self._settings.max_batch_size
            task.add_done_callback(self.metrics.begin(batch.items[0].arrived, batch.size, most))
        task.add_done_callback(self._ended)
        if span is not None:
            task.add_done_callback(lambda _: span.end())

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        if not self.former.waiting:
            return
        if self.former.has_full:
            self._pump()
        else:
            self._pump_after(_TURNS)

    def _pump_after(self, turns: int) -> None:
        """A body that blocks its loop leaves callers unread: they are let in first."""
        if turns:
            self.loop.call_soon(self._pump_after, turns - 1)
        else:
            self._pump()

    # ---- a batch ---------------------------------------------------------------------------------------------

    async def _run(self, batch: Batch[Item]) -> None:
        """A task's root."""
        items, started = batch.items, time.monotonic()
        try:
            is_whole = await self._answer(items)
        except asyncio.CancelledError as error:  # the loop ends, or the body was cancelled by its own doing
            reject_all(items, error)
            raise
        if is_whole and self._target is not None:
            self._target.done(items, batch.size, started, time.monotonic())

    async def _answer(self, items: Sequence[Item]) -> bool:
        """Runs the body for `items`; False when it has raised."""
        try:
            results = await self._batcher.call(items[0].owner, *columns_of(items))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # user code may raise anything; its callers get it
            await self._isolate(items, error)
            return False
        try:
            values = self._checked(results, len(items))
        except BaseException as error:  # a result that is no list may raise anything, too
            reject_all(items, error)
            return False
        for item, value in zip(items, values, strict=True):
            item.resolve(value)
        hold_answers = current_process().hold_answers if len(items) > 1 else None
        if hold_answers is not None:
            hold_answers()  # after the callers, which run next, were woken
        return True

    async def _isolate(self, items: Sequence[Item], error: BaseException) -> None:
        """The body has raised: halves of the batch are tried again, if that is wanted, down to the guilty items."""
        if len(items) == 1 or not self._settings.isolate_errors:
            reject_all(items, error)
            return
        middle = len(items) // 2
        for half in (items[:middle], items[middle:]):
            waiting = [item for item in half if not item.is_gone]
            if waiting:
                _serve_batch_request_context.set([item.request for item in waiting])
                await self._answer(waiting)

    async def _run_stream(self, batch: Batch[Item]) -> None:
        """A task's root."""
        try:
            await self._stream(batch.items)
        except asyncio.CancelledError as error:
            reject_all(batch.items, error)
            raise

    async def _stream(self, items: Sequence[Item]) -> None:
        """Runs the generator for `items` until it ends, or nobody wants more of it."""
        has_begun = False
        try:
            async with aclosing(self._batcher.call(items[0].owner, *columns_of(items))) as rows:
                async for row in rows:
                    has_begun = True
                    values = self._checked(row, len(items))
                    for item, value in zip(items, values, strict=True):
                        assert isinstance(item, StreamItem)
                        item.push(value)
                    await let_read(items)
                    if all(item.is_gone for item in items):
                        return
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # as in `_answer`
            if has_begun or len(items) == 1 or not self._settings.isolate_errors:
                reject_all(items, error)
                return
        else:
            for item in items:
                assert isinstance(item, StreamItem)
                item.end()
            return
        middle = len(items) // 2
        for half in (items[:middle], items[middle:]):
            waiting = [item for item in half if not item.is_gone]
            if waiting:
                await self._stream(waiting)

    def _checked(self, results: Any, count: int) -> Sequence[Any]:
        """The body's results as a list or tuple of `count`; raises EaglerayError for anything else."""
        name, verb = self._batcher.name, "yielded" if self._batcher.is_stream else "returned"
        expected = f"a list of {count} results, one for each item of the batch"
        kind = type(results)
        if kind is not list and kind is not tuple:
            if isinstance(results, str | bytes | dict | set | frozenset) or not hasattr(results, "__len__"):
                raise EaglerayError(f"Batched function '{name}' {verb} {kind.__name__}; expected {expected}.")
            results = list(results)
        if len(results) != count:
            raise EaglerayError(
                f"Batched function '{name}' {verb} {len(results)} results; expected {expected}. Every caller of this "
                f"batch gets this error. An exception object or None may stand for an item without a result."
            )
        checked: Sequence[Any] = results
        return checked

    # ---- for debugging ---------------------------------------------------------------------------------------

    @property
    def start_times(self) -> list[float]:
        """Wall times at which the running batches were started."""
        return list(self._running.values())

    def stacks(self) -> str:
        """Where the running batches are, from the outermost call to the innermost."""
        return "".join(
            f"{task.get_name()}:\n" + "".join(StackSummary.extract(_frames(task.get_coro())).format())
            for task in self._running
        )


def _frames(awaited: Any) -> Iterator[tuple[FrameType, int]]:
    """A suspended coroutine or async generator, what it awaits, what that awaits, and so on."""
    while awaited is not None:
        for prefix in ("cr", "ag", "gi"):
            frame = getattr(awaited, f"{prefix}_frame", None)
            if frame is not None:
                yield frame, frame.f_lineno
                awaited = getattr(awaited, f"{prefix}_await", None)
                break
        else:
            return
