"""The loop: events change the world, dirty keys are reconciled, rows are stored, then commands are performed.

It has no period: it sleeps until an event, a request or the next alarm. The order within one pass is what the rest
relies on: the table goes out first (it needs no disk, and lists only what is up), then rows become durable, then
commands are performed. A store that cannot be written stops commands, not traffic.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from eagleray.base.clock import Clock
from eagleray.base.errors import EaglerayError
from eagleray.controller.health import PassTimes
from eagleray.controller.listing import routing_table
from eagleray.controller.publisher import RESERVED_VERSIONS, Publisher
from eagleray.controller.storage import Storage
from eagleray.controller.workqueue import WorkQueue
from eagleray.reconcile.application import reconcile
from eagleray.reconcile.applications import META, accepted_rows
from eagleray.reconcile.commands import Command
from eagleray.reconcile.events import (
    ApplicationGone,
    Autoscaled,
    DeploymentGone,
    Event,
    Happened,
    Proven,
    Reached,
)
from eagleray.reconcile.instance import IllegalTransitionError, InstanceState, Trigger
from eagleray.reconcile.world import World
from eagleray.store.base import StoreError

logger = logging.getLogger("eagleray.controller")

VERSION_ROW = "table_version"
"""Row of META: routing table versions below this may have been published."""

_STORE_RETRY_S = 1.0
_MAX_ROUNDS = 100_000
"""Reconciliations in one pass after which something is taken to go in circles."""


@dataclass
class Admission:
    """What a request wants to happen: `events` at once or not at all, with the blobs that they name."""

    events: list[Event]
    blobs: Mapping[str, bytes] = field(default_factory=dict)


Prepare = Callable[[World], Admission]
"""Checks a request against the world as it is now; raises EaglerayError to refuse it."""


class Controller:
    """`perform` begins a command and returns at once; versions below `reserved` may be published."""

    def __init__(
        self,
        world: World,
        storage: Storage,
        publisher: Publisher,
        clock: Clock,
        runtime_dir: str,
        reserved: int,
    ) -> None:
        self.world = world
        self.publisher = publisher
        self.passes = PassTimes()
        self.perform: Callable[[Command], None] = _not_connected
        self.on_pass: Callable[[], None] = lambda: None
        """Called in each pass when the world has settled; what it posts is of the next one."""
        self.on_event: list[Callable[[Event], object]] = []
        """Called with each event before it takes effect."""
        self._storage = storage
        self._clock = clock
        self._runtime_dir = runtime_dir
        self._queue = WorkQueue()
        self._events: list[Event] = []
        self._requests: list[tuple[Prepare, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._ended = False
        self._changes: dict[tuple[str, str], bytes | None] = {}
        self._commands: list[Command] = []
        self._kept_blobs: set[str] | None = None
        self._collects = False
        self._reserved = reserved
        self._watchers: set[asyncio.Future[None]] = set()
        self._held_since: float | None = None
        self._held_s = 0.0

    # ---- from outside -----------------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        """Reports an event; it takes effect in the next pass, in order."""
        self._events.append(event)
        self._wake.set()

    async def admit(self, prepare: Prepare) -> None:
        """Returns once what `prepare` gave is durable and in effect; raises what it raises, or StoreError."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests.append((prepare, done))
        self._wake.set()
        await done

    def changes_nothing(self, prepare: Prepare) -> bool:
        """Whether `admit` would do nothing: then its caller need not wait for a pass. Raises what `prepare` raises.

        What the world says has been made durable, so a wish that it fulfils may be acknowledged at once.
        """
        admission = prepare(self.world)
        return not admission.events and not admission.blobs

    async def changed(self) -> None:
        """Returns after the next pass, that is when something may look different."""
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.add(watcher)
        try:
            await watcher
        finally:
            self._watchers.discard(watcher)

    def end(self) -> None:
        """`run` returns after the present pass."""
        self._ended = True
        self._wake.set()

    def _now(self) -> float:
        """Seconds as decisions count them: none pass while the store holds commands back, whose deadlines run."""
        now = self._clock.now() if self._held_since is None else self._held_since
        return now - self._held_s

    # ---- the loop ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until `end`. Cancelling it at any point loses nothing that was acknowledged."""
        loop = asyncio.get_running_loop()
        while not self._ended:
            alarm = self._queue.next_at()
            timer = None
            if alarm is not None and self._held_since is None:
                # One millisecond more: libuv's timers have that resolution, and one that is early would run twice.
                timer = loop.call_later(max(alarm - self._now(), 0.0) + 0.001, self._wake.set)
            slept_at = self._clock.now()
            await self._wake.wait()
            if timer is not None:
                timer.cancel()
            self._wake.clear()
            self.passes.slept_s = self._clock.now() - slept_at
            began = self._clock.now()
            await self.step()
            self.passes.note(self._clock.now() - began)

    async def step(self) -> None:
        """One pass over everything that has come up."""
        admitted = await self._admit_all()
        events, self._events = self._events, []
        for event in events:
            self._apply(event)
        self._queue.promote(self._now())
        self._reconcile_all()
        self._publish()
        self.on_pass()
        for done in admitted:
            if not done.done():
                done.set_result(None)
        watchers, self._watchers = self._watchers, set()
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)
        if await self._commit():
            commands, self._commands = self._commands, []
            for command in commands:
                self.perform(command)

    async def _admit_all(self) -> list[asyncio.Future[None]]:
        """Makes what was asked for durable, then lets it happen; a request that fails has changed nothing."""
        requests, self._requests = self._requests, []
        admitted = []
        for prepare, done in requests:
            try:
                admission = prepare(self.world)
                rows: dict[tuple[str, str], bytes | None] = {}
                for event in admission.events:
                    rows |= accepted_rows(self.world, event)
                if rows or admission.blobs:
                    await self._storage.commit(rows, admission.blobs)
            except EaglerayError as error:
                if not done.done():
                    done.set_exception(error)
                continue
            for event in admission.events:
                self._apply(event)
            admitted.append(done)
        return admitted

    def _apply(self, event: Event) -> None:
        for listener in self.on_event:
            listener(event)
        try:
            # Sorted, so that the same events lead to the same decisions in the same order.
            self._queue.mark(sorted(self.world.apply(event, self._now())))
        except IllegalTransitionError as error:
            # The event is a report that cannot be true; the world without it is as good as before.
            logger.error("%s is ignored: %s", type(event).__name__, error)
        if isinstance(event, Reached | Proven | ApplicationGone | DeploymentGone):
            self._collects = True
        _log(event)

    def _reconcile_all(self) -> None:
        rounds = 0
        while (key := self._queue.take()) is not None:
            plan = reconcile(self.world, key, self._now())
            self._commands += plan.commands
            self._queue.schedule(key, plan.wake_at)
            for event in plan.events:
                self._apply(event)
            rounds += 1
            if rounds > _MAX_ROUNDS:
                names = [type(one).__name__ for one in (*plan.events, *plan.commands)]
                raise AssertionError(f"reconciliation of {key!r} does not settle: {', '.join(names)}")

    def _publish(self) -> None:
        table = routing_table(self.world, self.publisher.table.version, self._runtime_dir)
        self.publisher.publish(table)
        self.publisher.await_unlisted(
            ref for ref, one in self.world.instances.items() if one.state is InstanceState.LEAVING
        )

    async def _commit(self) -> bool:
        self._changes |= self.world.take_changes()
        if self.publisher.table.version + RESERVED_VERSIONS // 2 > self._reserved:
            self._reserved = self.publisher.table.version + RESERVED_VERSIONS
            self._changes[META, VERSION_ROW] = msgspec.json.encode(self._reserved)
        keep = None
        if self._collects and (used := self.world.blobs_in_use()) != self._kept_blobs:
            keep = used
        if not self._changes and keep is None:
            return True
        changes, self._changes = self._changes, {}
        try:
            await self._storage.commit(changes, keep=keep)
        except StoreError as error:
            logger.error(
                "state is not stored, so nothing new is started; the next attempt is in 1 s: %s", error
            )
            self._changes = changes | self._changes
            if self.world.is_draining:
                # Nothing is started any more, and who comes after will find that all have gone.
                self._release()
                return True
            if self._held_since is None:
                self._held_since = self._clock.now()
            asyncio.get_running_loop().call_later(_STORE_RETRY_S, self._wake.set)
            return False
        self._release()
        if keep is not None:
            self._kept_blobs = keep
        self._collects = False
        return True

    def _release(self) -> None:
        """Commands are not held back any more."""
        if self._held_since is not None:
            self._held_s += self._clock.now() - self._held_since
            self._held_since = None


def _not_connected(command: Command) -> None:
    raise AssertionError(f"{type(command).__name__} comes before the controller is connected to its effects")


def _log(event: Event) -> None:
    """What an operator wants to read afterwards."""
    match event:
        case Autoscaled(key, num_replicas, reason):
            logger.info("%s scales to %d replica(s): %s", key, num_replicas, reason)
        case Happened(ref, Trigger.READY):
            logger.info("%s is ready", ref)
        case Happened(ref, trigger, reason) if trigger is not Trigger.UNLISTED:
            logger.info("%s: %s%s", ref, trigger, f" ({reason.splitlines()[-1]})" if reason else "")
        case _:
            logger.debug("%s", type(event).__name__)  # what it holds may be secret
