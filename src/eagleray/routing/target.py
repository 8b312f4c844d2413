"""One replica as one router sees it: the connection, the slots that this router holds there, and its record.

Counts of what this router has in flight are exact; what others have there is known from the load that each reply
carries.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from eagleray.base.errors import EaglerayError, ReplicaUnavailableError
from eagleray.routing.call import DONE
from eagleray.routing.record import Record
from eagleray.routing.table import ReplicaEntry
from eagleray.rpc.client import Client
from eagleray.wire.messages import ReplicaReport

if TYPE_CHECKING:
    from eagleray.routing.call import RoutedCall
    from eagleray.routing.pool import Pool


class Target:
    """A replica: its connection and the slots that this router holds there.

    `in_flight` changes with `lock` held, since other threads may `reserve` a slot; all else belongs to the loop.
    """

    __slots__ = (
        "cap",
        "client",
        "draining",
        "entry",
        "foreign",
        "full",
        "in_flight",
        "is_busy",
        "listed",
        "lock",
        "max_ongoing",
        "pinned",
        "pool",
        "record",
        "told_limit",
    )

    def __init__(self, pool: Pool, entry: ReplicaEntry) -> None:
        self.pool = pool
        self.entry = entry
        self.max_ongoing = entry.max_ongoing
        self.cap: int | None = None
        """While it is ejected or probed: how many calls it may get at once."""
        self.is_busy = False
        """Its loop does not turn at present: it gets no calls while others can take them (`routing.pulse`)."""
        self.client: Client | None = None
        self.in_flight = 0
        self.foreign = 0
        self.full = False
        self.draining = False
        self.listed = True
        self.pinned: list[RoutedCall] = []
        """Calls that wait for this very replica (`routing.pinned`)."""
        self.record: Record | None = None
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
    def takes_calls(self) -> bool:
        """Whether it is worth waiting for room here."""
        return self.client is not None and not self.draining and self.cap != 0 and not self.is_busy

    @property
    def score(self) -> int:
        return self.in_flight + self.foreign

    # ---- what is known of it ---------------------------------------------------------------------------------

    @property
    def latency_s(self) -> float:
        """Seconds until its answers begin, on average; 0 when nobody has measured."""
        return self.record.latency_s if self.record is not None else 0.0

    @property
    def models(self) -> frozenset[str] | None:
        """The models that it says it has; None when it does not multiplex."""
        return self.record.models if self.record is not None else None

    def holds(self, model_id: str) -> bool:
        """Whether calls for the model should come here."""
        return self.record is not None and self.record.holds(model_id) and self.takes_calls

    @property
    def crowding(self) -> tuple[bool, int, float]:
        """See `Record.crowding`."""
        return self.record.crowding if self.record is not None else (False, 0, 0.0)

    def on_report(self, report: ReplicaReport) -> None:
        """The replica has told what it is like."""
        self.pool.on_report(self, report)

    # ---- slots -----------------------------------------------------------------------------------------------

    def limit(self) -> None:
        """Takes over the replica's limit, or what an ejection leaves of it."""
        limit = self.told_limit or self.entry.max_ongoing
        # No calls, rather than a question of its own each time that somebody looks for room.
        self.max_ongoing = 0 if self.is_busy else limit if self.cap is None else min(limit, self.cap)

    def set_busy(self, is_busy: bool) -> None:
        self.is_busy = is_busy
        self.limit()

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
        pool = self.pool
        pool.limit.replies += 1
        if pool.waiting.count:
            pool.wake()
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
            self.pool.take_back(retry)
        self.pool.wake()
        if not self.listed and not self.in_flight:
            self.disconnect()

    def on_room(self, _client: Client) -> None:
        self.full = False
        self.foreign = max(0, min(self.foreign, self.max_ongoing - self.in_flight - 1))
        self.send_pinned()
        self.pool.wake()

    def on_limit(self, calls: int) -> None:
        self.told_limit = calls
        self.limit()
        self.full = False
        self.send_pinned()
        self.pool.wake()

    def on_goaway(self, _client: Client) -> None:
        self.draining = True
        self.drop_pinned()

    # ---- calls for this replica and no other -----------------------------------------------------------------

    def send_pinned(self) -> None:
        """Sends them all when it can be reached: what it has no room for comes back, and waits until it says ROOM."""
        client = self.client
        if self.pinned and client is not None and not client.closed:
            pinned, self.pinned = self.pinned, []
            for call in pinned:
                self.pool.send_to(call, self)

    def drop_pinned(self, error: EaglerayError | None = None) -> None:
        """It will take none of them; ReplicaUnavailableError unless there is a better reason."""
        pinned, self.pinned = self.pinned, []
        for call in pinned:
            call.state = DONE
            call.on_failed(error or ReplicaUnavailableError(self.entry.replica_id))

    def disconnect(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            client.close()
