"""The replicas of one deployment as one router sees them, and the requests that wait for them.

Requests queue here and are woken by completion: a reply, a ROOM notice of a replica that had refused, a new
connection. Nothing polls and nothing backs off blindly. Counts of what this router has in flight are exact; what
others have there is known from the load that each reply carries.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from eagleray.base.errors import DeploymentUnavailableError, EaglerayError
from eagleray.base.ids import DeploymentID
from eagleray.routing import admission
from eagleray.routing.call import DONE, NEW, QUEUED, SENT, RoutedCall
from eagleray.routing.policies import power_of_two
from eagleray.routing.table import DeploymentEntry, ReplicaEntry
from eagleray.rpc.client import Client


class Target:
    """A replica: its connection and the slots that this router holds there.

    `in_flight` changes with `lock` held, since other threads may `reserve` a slot; all else belongs to the loop.
    """

    __slots__ = (
        "client",
        "draining",
        "entry",
        "foreign",
        "full",
        "in_flight",
        "listed",
        "lock",
        "max_ongoing",
        "pool",
        "told_limit",
    )

    def __init__(self, pool: Pool, entry: ReplicaEntry) -> None:
        self.pool = pool
        self.entry = entry
        self.max_ongoing = entry.max_ongoing
        self.client: Client | None = None
        self.in_flight = 0
        self.foreign = 0
        self.full = False
        self.draining = False
        self.listed = True
        self.told_limit: int | None = None
        """How many calls the replica itself says that it runs at once; it knows better than the table."""
        self.lock = threading.Lock()

    @property
    def has_room(self) -> bool:
        client = self.client
        return (
            client is not None
            and self.in_flight < self.max_ongoing
            and not self.full
            and not self.draining
            and not client.closed
        )

    @property
    def score(self) -> int:
        return self.in_flight + self.foreign

    def observe(self, load: int) -> None:
        self.foreign = max(0, load - self.in_flight)

    def reserve(self) -> bool:
        """From any thread: takes a slot if there is one, to be given back by `release`."""
        with self.lock:
            if not self.listed or not self.has_room:
                return False
            self.in_flight += 1
            return True

    def release(self, load: int | None) -> None:
        """A call of ours has ended there: its slot is free again."""
        with self.lock:
            self.in_flight -= 1
        self.full = False
        if load is not None:
            foreign = load - self.in_flight
            self.foreign = foreign if foreign > 0 else 0
        if self.pool.queued:
            self.pool.wake()
        if not self.listed and not self.in_flight:
            self.disconnect()

    def refuse(self, load: int, *, draining: bool, retry: RoutedCall | None = None) -> None:
        """The replica did not take a call: it is full until it says ROOM, or is leaving for good."""
        with self.lock:
            self.in_flight -= 1
        self.observe(load)
        if draining:
            self.draining = True
        else:
            self.full = True
        if retry is not None:
            self.pool.enqueue(retry, first=True)
        self.pool.wake()
        if not self.listed and not self.in_flight:
            self.disconnect()

    def on_room(self, _client: Client) -> None:
        self.full = False
        self.foreign = max(0, min(self.foreign, self.max_ongoing - self.in_flight - 1))
        self.pool.wake()

    def on_limit(self, calls: int) -> None:
        self.told_limit = self.max_ongoing = calls
        self.full = False
        self.pool.wake()

    def on_goaway(self, _client: Client) -> None:
        self.draining = True

    def disconnect(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            client.close()


class Pool:
    """The queue and the targets of one deployment.

    `dial` is asked for a connection when a target needs one, `missed` is told of calls to what no table names.
    """

    def __init__(
        self, key: str, dial: Callable[[Target], None], missed: Callable[[Pool], object] | None = None
    ) -> None:
        self.key = key
        self.entry: DeploymentEntry | None = None
        self.targets: list[Target] = []
        self.queued = 0
        self._queue: deque[RoutedCall] = deque()
        self._dial = dial
        self._missed = missed

    @property
    def ongoing(self) -> int:
        """Calls in flight at listed replicas."""
        return sum(target.in_flight for target in self.targets)

    def submit(self, call: RoutedCall) -> None:
        call.pool = self
        if not self.queued:
            target = power_of_two(self.targets)
            if target is not None:
                self._send(call, target)
                return
        refused = admission.refusal(self.entry, self.queued, bool(self.targets))
        if refused is not None:
            call.state = DONE
            call.on_failed(refused)
            return
        self.enqueue(call)
        # Room may exist although others wait: their wake-up is then still to come in this turn of the loop.
        self.wake()
        if self.entry is None and self._missed is not None:
            self._missed(self)

    def submit_alone(self, call: RoutedCall, post: Callable[..., object]) -> bool:
        """From any thread: sends a small call to an idle replica. False: nothing was done, `submit` it on the loop.

        `post` runs a function on the loop.
        """
        target = None if self.queued else power_of_two(self.targets)
        client = target.client if target is not None else None
        if target is None or client is None or not target.reserve():
            return False
        call.pool = self
        call.target = target
        call.state = SENT
        sent = False
        try:
            sent = client.call_alone(call.head, call.body, call, call.opened)
        finally:
            if not sent and call.stream is None:  # also when Ctrl-C came between
                call.state = NEW
                call.target = None
                post(target.release, None)
        return sent

    def enqueue(self, call: RoutedCall, *, first: bool = False) -> None:
        call.state = QUEUED
        self.queued += 1
        if first:
            self._queue.appendleft(call)
        else:
            self._queue.append(call)

    def forget(self, call: RoutedCall) -> None:
        """A waiting call was cancelled; it is passed over later unless the dead outnumber the living."""
        call.state = DONE
        self.queued -= 1
        if len(self._queue) > 2 * self.queued + 64:
            self._queue = deque(waiting for waiting in self._queue if waiting.state == QUEUED)

    def wake(self) -> None:
        """Sends waiting calls, oldest first, while some target has room."""
        queue = self._queue
        while queue:
            if queue[0].state != QUEUED:
                queue.popleft()
                continue
            target = power_of_two(self.targets)
            if target is None:
                return
            call = queue.popleft()
            self.queued -= 1
            self._send(call, target)
            queue = self._queue

    def _send(self, call: RoutedCall, target: Target) -> None:
        assert target.client is not None
        with target.lock:
            target.in_flight += 1
        call.state = SENT
        call.target = target
        call.stream = target.client.call(call.head, call.body, end=call.body_complete, handler=call)

    def update(self, entry: DeploymentEntry | None) -> None:
        """Takes over what a new table says; targets that left it finish what they have."""
        known = self.entry
        self.entry = entry
        if entry is None:
            self._retire({t.entry.replica_id for t in self.targets})
            if known is not None:
                self.fail_unavailable("it was deleted")
            elif self.queued and self._missed is not None:
                self._missed(self)
            return
        listed = {replica.replica_id: replica for replica in entry.replicas}
        self._retire({t.entry.replica_id for t in self.targets if t.entry.replica_id not in listed})
        present = {target.entry.replica_id: target for target in self.targets}
        for replica_id, replica in listed.items():
            target = present.get(replica_id)
            if target is None:
                target = Target(self, replica)
                self.targets.append(target)
                self._dial(target)
            else:
                target.entry = replica
                target.max_ongoing = target.told_limit or replica.max_ongoing
        if entry.failed and not self.targets:
            self.fail_unavailable()
        else:
            self.wake()

    def _retire(self, replica_ids: set[str]) -> None:
        leaving = [t for t in self.targets if t.entry.replica_id in replica_ids]
        self.targets = [t for t in self.targets if t.entry.replica_id not in replica_ids]
        for target in leaving:
            with target.lock:
                target.listed = False
                idle = not target.in_flight
            if idle:
                target.disconnect()

    def fail_unavailable(self, reason: str = "it failed to deploy") -> None:
        self.fail_waiting(DeploymentUnavailableError(DeploymentID.parse(self.key), reason))

    def fail_waiting(self, error: EaglerayError) -> None:
        waiting, self._queue, self.queued = self._queue, deque(), 0
        for call in waiting:
            if call.state == QUEUED:
                call.state = DONE
                call.on_failed(error)
