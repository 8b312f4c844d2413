"""Works a queue off in threads: claims tasks, runs their handlers, says how they ended; renews leases meanwhile.

    claimed -> handler returns -> succeed
            -> handler raises  -> retry after 1, 2, 4 ... 60 s, `max_retries` times -> fail, copied to the failed queue
            -> nobody can run it                                 -> fail, copied to the unprocessable queue
            -> this process dies, its lease runs out             -> claimed by another

A task is acknowledged after it has run, never before: nothing is lost, but a task may run twice, so handlers are to be
idempotent. No task is claimed for which there is no free thread.
"""

from __future__ import annotations

import inspect
import json
import logging
import random
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from queue import SimpleQueue
from time import monotonic
from typing import Any

from eagleray.base.tasks import Backoff
from eagleray.tasks.queue import TaskQueue
from eagleray.tasks.record import Claim, TaskQueueError, decode_arguments
from eagleray.wire.remote_error import safe_str

logger = logging.getLogger("ray.serve")

Handler = Callable[..., Any]

MOST_LOSSES = 5
"""Processes that may die with one task before it is held to be what kills them."""

_WAIT_S = 0.5
"""Seconds that one wait for tasks takes at most, and so the end of an idle consumer."""

_OUTAGE_FIRST_S, _OUTAGE_LIMIT_S = 0.1, 5.0
"""Delays between attempts to reach a store that has gone."""

_HOUSEKEEPING_S = 60.0


@dataclass(frozen=True)
class Rules:
    """How one queue is worked off. Times are in seconds; a queue name that is None drops what would go there."""

    queue: str
    concurrency: int
    max_retries: int | None = 3
    """None: without end."""
    failed_queue: str | None = None
    unprocessable_queue: str | None = None
    lease_s: float = 30.0
    first_delay_s: float = 1.0
    most_delay_s: float = 60.0
    keep_results_s: float = 86_400.0


class Running:
    """A task that runs. `interrupt`, if its handler sets it, is called when the task is cancelled."""

    __slots__ = ("claim", "interrupt", "is_lost")

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.is_lost = False
        """It was cancelled, or belongs to another consumer: what it comes to is dropped."""
        self.interrupt: Callable[[], object] | None = None


running_task: ContextVar[Running | None] = ContextVar("eagleray_running_task", default=None)
"""Set around a handler, in its thread."""


class Consumer:
    """`start`, then `stop`, once. The store is the caller's to close."""

    def __init__(self, store: TaskQueue, rules: Rules, handlers: Mapping[str, Handler]) -> None:
        self._store = store
        self._rules = rules
        self._handlers = dict(handlers)
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._concurrency = rules.concurrency
        self._work: SimpleQueue[Running | None] = SimpleQueue()
        self._changed = threading.Condition()
        self._running: dict[str, Running] = {}
        """By token: a task whose lease ran out may be here twice."""
        self._workers = 0
        self._is_fetching = True
        self._fetcher = threading.Thread(target=self._fetch, name=f"tasks-fetch {rules.queue}", daemon=True)
        self._renewer = threading.Thread(target=self._renew, name=f"tasks-renew {rules.queue}", daemon=True)

    def start(self) -> None:
        self._fetcher.start()
        self._renewer.start()

    def stop(self, timeout_s: float) -> bool:
        """Takes no more tasks and waits for those that run. Whether all have ended; the others are given back.

        A handler of one that was given back may still run on: its thread ends with the process.
        """
        deadline = monotonic() + timeout_s
        with self._changed:
            self._stopping.set()
            self._changed.notify_all()
            self._changed.wait_for(self._is_idle, max(deadline - monotonic(), 0.0))
            left = [running.claim for running in self._running.values()]
            self._running.clear()
        self._ended.set()
        for claim in left:
            self._attempt(lambda claim=claim: self._store.release(claim))  # type: ignore[misc]
        if left:
            logger.warning(
                "%d tasks of queue '%s' did not end within %g s: another consumer gets them.",
                len(left),
                self._rules.queue,
                timeout_s,
            )
        self._fetcher.join(_WAIT_S * 4)
        for _ in range(self._workers):
            self._work.put(None)
        return not left

    def _is_idle(self) -> bool:
        return not self._running and not self._is_fetching

    def resize(self, concurrency: int) -> None:
        """Running tasks go on when there are more of them than the new limit."""
        with self._changed:
            self._concurrency = concurrency
            self._changed.notify_all()

    @property
    def ongoing(self) -> int:
        """Tasks that run here now."""
        return len(self._running)

    # ---- fetching ----------------------------------------------------------------------------------------------

    def _fetch(self) -> None:
        outage = Backoff(_OUTAGE_FIRST_S, _OUTAGE_LIMIT_S)
        is_out = False
        try:
            while self._wait_free():
                claim = None
                try:
                    claim = self._next_claim()
                except TaskQueueError as error:
                    if not is_out:
                        logger.error("Queue '%s' cannot be worked off for now: %s", self._rules.queue, error)
                    is_out = True
                    self._stopping.wait(outage.next_s())
                else:
                    is_out = False
                    outage.reset()
                if claim is not None:
                    self._begin(claim)
        finally:
            with self._changed:
                self._is_fetching = False
                self._changed.notify_all()

    def _wait_free(self) -> bool:
        """Waits until one more task may run; False when none may any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping.is_set() or len(self._running) < self._concurrency)
            return not self._stopping.is_set()

    def _next_claim(self) -> Claim | None:
        claim = self._store.claim(self._rules.queue, self._rules.lease_s)
        if claim is None and not self._stopping.is_set():
            self._store.wait(self._rules.queue, _WAIT_S)
        return claim

    def _begin(self, claim: Claim) -> None:
        running = Running(claim)
        with self._changed:
            is_late = self._ended.is_set()
            if not is_late:
                self._running[claim.token] = running
                if len(self._running) > self._workers:
                    self._workers += 1
                    name = f"tasks-{self._workers} {self._rules.queue}"
                    threading.Thread(target=self._serve, name=name, daemon=True).start()
        if is_late:
            self._attempt(lambda: self._store.release(claim))
        else:
            self._work.put(running)

    # ---- running -----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while (running := self._work.get()) is not None:
            try:
                running_task.set(running)
                settle = self._run(running)
                running_task.set(None)
                if settle is not None and not self._ended.is_set():
                    self._settle(running.claim, settle)
            finally:
                with self._changed:
                    self._running.pop(running.claim.token, None)
                    self._changed.notify_all()
            del running  # what it holds must not live until the next task

    def _run(self, running: Running) -> Callable[[], bool] | None:
        """Runs the handler; returns what is to be told to the store, if it is still ours to tell."""
        claim = running.claim
        store, unprocessable = self._store, self._rules.unprocessable_queue
        if claim.losses > MOST_LOSSES:
            told = f"{claim.losses} processes have died while they ran it."
            return lambda: store.fail(claim, told, self._rules.failed_queue)
        handler = self._handlers.get(claim.name)
        try:
            args, kwargs = decode_arguments(claim.payload)
            if handler is None:
                known = ", ".join(sorted(self._handlers)) or "none"
                raise ValueError(f"there is no handler for '{claim.name}'; there are: {known}")
            _check_call(handler, args, kwargs)
        except ValueError as error:
            told = f"Task '{claim.name}' cannot be processed: {error}."
            logger.error("%s (task %s, queue '%s')", told, claim.id, self._rules.queue)
            return lambda: store.fail(claim, told, unprocessable)
        assert handler is not None
        try:
            value = handler(*args, **kwargs)
        except (
            BaseException
        ) as error:  # the handler is user code: whatever it raises is the task's end, not ours
            return None if running.is_lost else self._failed(claim, error)
        try:
            result = json.dumps(value, allow_nan=False)
        except Exception as error:  # a value of a class of the user's may raise anything
            why = safe_str(error)
            told = f"It has run, but its result cannot be kept as JSON: {why}. Return plain values, or None."
            logger.error("Task %s ('%s'): %s", claim.id, claim.name, told)
            return lambda: store.fail(claim, told, self._rules.failed_queue)
        return lambda: store.succeed(claim, result)

    def _failed(self, claim: Claim, error: BaseException) -> Callable[[], bool]:
        rules, store = self._rules, self._store
        told = f"{type(error).__name__}: {safe_str(error)}"
        if rules.max_retries is None or claim.attempts < rules.max_retries:
            delay_s = retry_delay_s(claim.attempts, rules.first_delay_s, rules.most_delay_s)
            logger.warning(
                "Task %s ('%s') has failed and is tried again in %.1f s: %s",
                claim.id,
                claim.name,
                delay_s,
                told,
            )
            return lambda: store.retry(claim, delay_s, told)
        logger.error("Task %s ('%s') has failed for good.", claim.id, claim.name, exc_info=error)
        return lambda: store.fail(claim, told, rules.failed_queue)

    def _settle(self, claim: Claim, settle: Callable[[], bool]) -> None:
        """Tells the store, through an outage as long as the lease; afterwards the task runs again elsewhere."""
        deadline = monotonic() + self._rules.lease_s
        delays = Backoff(_OUTAGE_FIRST_S, _OUTAGE_LIMIT_S)
        while True:
            try:
                is_ours = settle()
            except TaskQueueError as error:
                if monotonic() > deadline or self._ended.wait(delays.next_s()):
                    logger.error(
                        "The end of task %s could not be stored, so it runs again: %s", claim.id, error
                    )
                    return
                continue
            if not is_ours:
                logger.info(
                    "What task %s came to is dropped: it was cancelled, or given to another.", claim.id
                )
            return

    def _attempt(self, operation: Callable[[], object]) -> None:
        """For what a lease that runs out does as well."""
        try:
            operation()
        except TaskQueueError as error:
            logger.warning("Queue '%s': %s", self._rules.queue, error)

    # ---- leases ------------------------------------------------------------------------------------------------

    def _renew(self) -> None:
        swept_at = monotonic()
        while not self._ended.wait(self._rules.lease_s / 3):
            with self._changed:
                running = list(self._running.values())
            if running:
                self._attempt(lambda running=running: self._renew_all(running))  # type: ignore[misc]
            if monotonic() - swept_at > _HOUSEKEEPING_S:
                swept_at = monotonic()
                self._attempt(lambda: self._store.forget_ended(self._rules.keep_results_s))

    def _renew_all(self, running: list[Running]) -> None:
        lost = set(self._store.renew([one.claim for one in running], self._rules.lease_s))
        for one in running:
            if one.claim.token in lost and not one.is_lost:
                one.is_lost = True
                logger.info(
                    "Task %s ('%s') was cancelled, or given to another.", one.claim.id, one.claim.name
                )
                if one.interrupt is not None:
                    one.interrupt()


def retry_delay_s(attempts: int, first_s: float, most_s: float) -> float:
    """Seconds before the next attempt, after `attempts` + 1 have failed; up to a quarter less, so that many spread."""
    delay_s = min(most_s, first_s * 2.0 ** min(attempts, 60))
    return float(delay_s * (1.0 - 0.25 * random.random()))


def _check_call(handler: Handler, args: list[Any], kwargs: dict[str, Any]) -> None:
    """ValueError for arguments that the handler cannot be called with: trying again would not mend that."""
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # written in C without a signature
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ValueError(f"its arguments do not fit: {error}") from None
