"""Runs a user's RequestRouter for the calls of one pool.

Calls wait in the pool while the router chooses; tasks, a bounded number of them, each take the oldest one that nobody
has taken. Those that find no room are parked and tried in turn, so that they never hold up others. A router that
raises, answers nonsense or takes too long costs no request: that request goes the default way, and the log says why,
once.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from eagleray.base import ray_names
from eagleray.base.errors import ConfigError
from eagleray.base.ids import DeploymentID
from eagleray.base.tasks import Tasks
from eagleray.base.threads import run_in_new_thread
from eagleray.routing.call import QUEUED, RoutedCall
from eagleray.routing.policies import power_of_two
from eagleray.routing.request_router import PendingRequest, RequestRouter, RunningReplica
from eagleray.routing.router_mixins import FIFOMixin
from eagleray.routing.table import RouterEntry
from eagleray.wire import codec

if TYPE_CHECKING:
    from eagleray.routing.pool import Pool
    from eagleray.routing.target import Target

logger = logging.getLogger("eagleray.routing")

_CHOICE_S = 5.0
"""Seconds that a router may take to choose."""
_MOST_CHOOSING = 64
"""Requests that are chosen for at the same time; the others wait their turn."""


class UserChooser:
    """The chooser of `pool`. The router's class is found in a thread, since its module may be slow to import.

    Calls wait for it meanwhile.
    """

    def __init__(self, pool: Pool, entry: RouterEntry, tasks: Tasks) -> None:
        """`tasks` own what runs here; their owner ends it."""
        self._pool = pool
        self._entry = entry
        self._deployment = DeploymentID.parse(pool.key)
        self._router: RequestRouter | None = None
        self._complained = False
        self._fifo = False
        self._replicas: dict[str, RunningReplica] = {}
        self._unclaimed: deque[RoutedCall] = deque()
        self._pending: dict[RoutedCall, tuple[PendingRequest, RunningReplica]] = {}
        self._parked: deque[tuple[RoutedCall, PendingRequest, int]] = deque()
        """Calls that were chosen for without finding room, and how often; they are tried in turn."""
        self._retries = 0
        self._changes = 0
        self._ticks = False
        self._choosing = 0
        self._tasks = tasks
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False
        self._start(self._load(), "load")

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._tasks.start(work, name=f"request router of {self._pool.key}: {name}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    # ---- the router ------------------------------------------------------------------------------------------

    async def _load(self) -> None:
        """A task's root."""
        entry = self._entry
        try:
            kind = await run_in_new_thread(_find_class, entry)
            router = kind(
                deployment_id=self._deployment,
                handle_source="",
                initial_backoff_s=entry.initial_backoff_s,
                backoff_multiplier=entry.backoff_multiplier,
                max_backoff_s=entry.max_backoff_s,
            )
            router.initialize_state(**json.loads(entry.kwargs))
        except asyncio.CancelledError:
            raise
        except BaseException:  # user code may raise anything
            self._complain("could not be made")
            if not self._closed:
                self._pool.route_plainly()
        else:
            self._router = router
            self._fifo = isinstance(router, FIFOMixin)
            self.update()
            self.kick()

    def _complain(self, what: str) -> None:
        if not self._complained:
            self._complained = True
            logger.exception(
                "The request router of %s %s; requests that it fails for are routed by power of two choices. This is "
                "said once.",
                self._pool.key,
                what,
            )

    def _tell(self, hook: Callable[..., object], *args: Any) -> None:
        """Calls a hook of the router."""
        try:
            hook(*args)
        except Exception:  # user code
            self._complain(f"has failed in `{getattr(hook, '__name__', hook)}`")

    # ---- of the pool -----------------------------------------------------------------------------------------

    def update(self) -> None:
        """The targets, or what is known of them, have changed."""
        known = self._replicas
        self._replicas = {}
        for target in self._pool.targets:
            if target.client is not None:
                name = target.entry.replica_id
                replica = known.get(name)
                fits = replica is not None and replica.target is target
                self._replicas[name] = (
                    replica if fits and replica else RunningReplica(target, self._deployment)
                )
        router = self._router
        if router is not None:
            for name, replica in known.items():
                if name not in self._replicas:
                    self._tell(router.on_replica_actor_died, replica.replica_id)
            self._tell(router.update_replicas, list(self._replicas.values()))

    @property
    def surplus(self) -> int:
        """How many calls wait for more than to be chosen for: those that replicas have no room for."""
        targets = self._pool.targets
        room = sum(target.max_ongoing - target.in_flight for target in targets if target.has_room)
        return max(0, self._pool.waiting.count - room)

    def submitted(self, call: RoutedCall, first: bool) -> None:
        """A call has begun to wait."""
        if first:
            self._unclaimed.appendleft(call)
        else:
            self._unclaimed.append(call)

    def kick(self) -> None:
        """Something may go on: a call waits, or a replica has room."""
        self._changes += 1
        self._retry()

    def _retry(self) -> None:
        """Lets some of the parked calls be tried once more, beside all that are new."""
        self._retries = min(len(self._parked), _MOST_CHOOSING)
        self._go_on()

    def _go_on(self) -> None:
        router = self._router
        while router is not None and not self._closed and self._choosing < _MOST_CHOOSING:
            if self._unclaimed:
                call = self._unclaimed.popleft()
                pending, attempt = PendingRequest.of(call), 0
            elif self._retries and self._parked:
                self._retries -= 1
                call, pending, attempt = self._parked.popleft()
            else:
                return
            if call.state == QUEUED:
                self._choosing += 1
                self._start(self._choose_for(router, call, pending, attempt), "choose")

    def ended(self, call: RoutedCall) -> None:
        """A call has ended at its replica, or was refused there."""
        found, router = self._pending.pop(call, None), self._router
        if found is not None and router is not None:
            pending, replica = found
            request_id = pending.metadata.internal_request_id
            self._tell(router.on_request_completed, replica.replica_id, request_id)
            self._tell(router.on_new_queue_len_info, replica.replica_id, max(0, replica.target.score - 1))

    def close(self) -> None:
        """The pool goes another way from now on."""
        self._closed = True
        for task in tuple(self._running):
            task.cancel()

    # ---- choosing --------------------------------------------------------------------------------------------

    async def _choose_for(
        self, router: RequestRouter, call: RoutedCall, pending: PendingRequest, attempt: int
    ) -> None:
        """A task's root: chooses until `call` has been sent, by this task or by another, or finds no room."""
        try:
            while call.state == QUEUED:
                seen = self._changes
                target = await self._choose(router, pending)
                if call.state != QUEUED:
                    return
                if target is None or not target.has_room:
                    self._park(call, pending, attempt, self._changes != seen)
                    return
                self._send(router, call, pending, target)
                attempt = 0
        finally:
            self._choosing -= 1
            self._go_on()

    def _park(self, call: RoutedCall, pending: PendingRequest, attempt: int, has_changed: bool) -> None:
        """`call` waits without a place among those that are chosen for, until something changes.

        A router that goes by time is asked again anyway.
        """
        self._parked.append((call, pending, attempt + 1))
        self._retries += has_changed
        if not self._ticks:
            self._ticks = True
            entry = self._entry
            backoff_s = entry.initial_backoff_s * entry.backoff_multiplier ** min(attempt, 50)
            self._start(self._tick(min(backoff_s, entry.max_backoff_s)), "back off")

    async def _tick(self, delay_s: float) -> None:
        """A task's root."""
        while self._parked:
            await asyncio.sleep(delay_s)
            self._retry()
            delay_s = min(delay_s * self._entry.backoff_multiplier, self._entry.max_backoff_s)
        self._ticks = False

    async def _choose(self, router: RequestRouter, pending: PendingRequest) -> Target | None:
        """Where the router wants the request to go; the default way when the router fails."""
        candidates = [replica for replica in self._replicas.values() if replica.target.takes_calls]
        if not candidates:
            return None
        try:
            async with asyncio.timeout(_CHOICE_S):
                groups = await router.choose_replicas(candidate_replicas=candidates, pending_request=pending)
            for group in groups:
                targets = [self._target_of(replica) for replica in group]
                ready = [target for target in targets if target is not None and target.has_room]
                if ready:
                    return min(ready, key=lambda target: target.score)
        except BaseException as error:  # user code may raise anything, also a CancelledError of its own
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            self._complain("has failed to choose")
            return power_of_two(self._pool.targets)
        return None

    def _target_of(self, replica: RunningReplica) -> Target | None:
        if not isinstance(replica, RunningReplica):
            raise TypeError(
                f"choose_replicas must return lists of RunningReplica, the preferred list first; got {replica!r}."
            )
        known = self._replicas.get(replica.replica_id.unique_id)
        return known.target if known is not None else None

    def _send(
        self, router: RequestRouter, chosen_for: RoutedCall, pending: PendingRequest, target: Target
    ) -> None:
        call = self._oldest_like(chosen_for) if self._fifo else chosen_for
        if call is not chosen_for:
            pending = PendingRequest.of(call)
        replica = self._replicas[target.entry.replica_id]
        self._pending[call] = (pending, replica)
        self._tell(router.on_send_request, replica.replica_id)
        self._pool.send_waiting(call, target)
        pending.routed(replica)
        self._tell(router.on_request_routed, pending, replica.replica_id, None)

    def _oldest_like(self, call: RoutedCall) -> RoutedCall:
        """The oldest call of the same model that waits; without a model, the oldest of all."""
        model_id = call.head.multiplexed_model_id
        for waiting in self._pool.waiting:
            if not model_id or waiting.head.multiplexed_model_id == model_id:
                return waiting
        return call


def _find_class(entry: RouterEntry) -> Callable[..., RequestRouter]:
    """In a thread: importing runs user code."""
    # A proxy serves applications of both kinds, so the names are Ray's for the time of this import only.
    with ray_names.hook() if entry.as_ray else nullcontext():
        found = _load(entry)
    if not (isinstance(found, type) and issubclass(found, RequestRouter)):
        raise ConfigError(f"The request router {entry.path or found!r} is not a subclass of RequestRouter.")
    return found


def _load(entry: RouterEntry) -> Any:
    if entry.code:
        return codec.load_code(entry.code)
    module_name, _, name = entry.path.partition(":")
    sys.path[:0] = [path for path in entry.sys_path if path not in sys.path]
    found: Any = importlib.import_module(module_name)
    for part in name.split("."):
        found = getattr(found, part)
    return found
