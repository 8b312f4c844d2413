"""Sends the requests of one plan to one server, and counts what becomes of them.

An open loop sends at the times of its arrivals. What cannot leave in time because all connections are busy is not
queued but caught up with: the next arrival is simply in the past, so memory does not grow with the delay, and latency
counts from the intended time. No task, future or timer per request; one sweep looks after time-outs and the end.

Servers may refuse, stall, close or lie: that is counted and never raised. It must not print.
"""

from __future__ import annotations

import asyncio
import errno
import math
import random
import time
from collections.abc import Callable

from eagleray.base.tasks import Tasks
from eagleray.loadtest.alarm import Alarm
from eagleray.loadtest.arrivals import Schedule
from eagleray.loadtest.connection import Connection
from eagleray.loadtest.ledger import Line
from eagleray.loadtest.plan import Plan
from eagleray.loadtest.tally import Point, Tally

SWEEP_S = 0.05
"""Between two looks for time-outs and the end."""

_TICK_S = 1.0
_PAUSE_S = 0.01
"""Of a closed loop's connection after an error, so that a dead server is not flooded with attempts."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE)
_NO_PORT = (errno.EADDRNOTAVAIL, errno.EADDRINUSE)


class Load:
    """One run of `plan` against `address`, an IP address and port. `run` may be called once."""

    def __init__(
        self,
        plan: Plan,
        address: tuple[str, int],
        request: bytes | Callable[[int], bytes],
        *,
        on_tick: Callable[[Point | None], None] | None = None,
        on_line: Callable[[Line], None] | None = None,
        keep_bodies: bool = False,
    ) -> None:
        """`request` is all bytes of it, or makes them from a request's number.

        `on_tick` is called once a second, with None during the warm-up; `on_line` for each measured request.
        """
        self.plan = plan
        self.tally = Tally()
        self.began = math.inf
        """When the measurement begins; monotonic seconds."""
        self.asked = 0
        """Requests that have begun; each has the number that this was before."""
        self._address = address
        self._make_request = request if callable(request) else None
        self._request = request(0) if callable(request) else request
        self._head_only = self._request.startswith(b"HEAD ")
        self._on_tick = on_tick
        self._on_line = on_line
        self._keep_bodies = keep_bodies
        self._tasks = Tasks("load")
        self._idle: list[Connection] = []
        self._busy: dict[Connection, None] = {}
        """In the order in which they began, which is that of their time-outs."""
        self._open = 0
        self._is_open_loop = plan.rate is not None
        self._is_starved = False
        """Requests are due and all connections busy."""
        self._is_over = False

    async def run(self) -> Tally:
        """Until the last request has ended, or `stop`."""
        self._loop = asyncio.get_running_loop()
        self._done = asyncio.Event()
        now = time.monotonic()
        self._schedule = Schedule.of(self.plan, now, random.Random(self.plan.seed).expovariate)
        self.began = self._schedule.began
        self._watch = _Watch(self.tally, self.began, self.began + self.plan.duration_s, self._on_tick)
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)
        alarm = self._alarm = Alarm(self._pump)
        try:
            if self._is_open_loop:
                alarm.set(self._schedule.next)
            else:
                for _ in range(self.plan.connections):
                    self._ask_again(0.0)
            await self._done.wait()
        finally:
            self._is_over = True
            alarm.close()
            self._sweeper.cancel()
            for connection in (*self._busy, *self._idle):
                self.tally.bytes_in += connection.bytes_in
                connection.close()
            await self._tasks.close()
        return self.tally

    def finish(self) -> None:
        """Sends nothing more, and ends when what is under way has ended. Not before `run`."""
        self._schedule.end()
        self._look_for_end(time.monotonic())

    def stop(self) -> None:
        """Ends now; what is under way is counted as unfinished."""
        if self._is_over:
            return
        now = time.monotonic()
        self.tally.unfinished += sum(one.intended >= self.began for one in self._busy)
        while self._schedule.next <= now:
            self.tally.unfinished += self._schedule.next >= self.began
            self._schedule.advance()
        self._finish(now)

    # ---- time ----------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        now = time.monotonic()
        late = now - self.plan.timeout_s
        while self._schedule.next < late:  # first, so that nothing of it takes the place of what follows
            self._count_error(self._schedule.next, 0.0, "timeout", now)
            self._schedule.advance()
        while self._busy and (oldest := next(iter(self._busy))).intended < late:
            oldest.close()
            self.failed(oldest, "timeout")
        self._watch.look(now)
        delay_s = min(SWEEP_S, max(0.0, self._watch.next_at - now))
        self._sweeper = self._loop.call_later(delay_s, self._sweep)
        self._look_for_end(now)

    def _look_for_end(self, now: float) -> None:
        if not self._busy and self._schedule.is_exhausted(now):
            self._finish(now)

    def _finish(self, now: float) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._watch.end(now)
        self._done.set()

    # ---- sending -------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Sends whatever is due and can leave."""
        if self._is_over:
            return
        now = time.monotonic()
        record_lag = self.tally.lag.record
        while (at := self._schedule.next) <= now:
            if self._idle:
                self._send(self._idle.pop(), at, now)
            elif self._open < self.plan.connections:
                self._dial(at, now)
            else:
                self._is_starved = True
                return  # whoever becomes free goes on
            if at >= self.began:
                if self._is_starved:
                    self.tally.waited += 1
                else:
                    record_lag(now - at)
            self._schedule.advance()
        self._is_starved = False
        if at != math.inf:
            self._alarm.set(at)

    def _send(self, connection: Connection, intended: float, now: float) -> None:
        connection.intended = intended
        connection.number = self.asked
        self.asked += 1
        self._busy[connection] = None
        self._write(connection, now)

    def _write(self, connection: Connection, now: float) -> None:
        connection.sent = now
        if connection.intended >= self.began:
            self.tally.sent += 1
        request = self._request if self._make_request is None else self._make_request(connection.number)
        connection.ask(request, head_only=self._head_only)

    def _dial(self, intended: float, now: float) -> None:
        connection = Connection(self, self.plan.timeout_s, keep_body=self._keep_bodies)
        connection.intended = intended
        connection.number = self.asked
        self.asked += 1
        self._open += 1
        self._busy[connection] = None
        connection.task = self._tasks.start(self._connect(connection), name="connect")

    async def _connect(self, connection: Connection) -> None:
        try:
            await self._loop.create_connection(lambda: connection, *self._address)
        except OSError as error:
            if not connection.is_gone:
                connection.close()
                self.failed(connection, _kind(error))

    def _ask_again(self, pause_s: float) -> None:
        """A closed loop's connection has to be dialled anew."""
        if pause_s:
            self._loop.call_later(pause_s, self._ask_again, 0.0)
        elif not self._is_over and self._schedule.take(now := time.monotonic()):
            self._dial(now, now)

    # ---- what connections tell -----------------------------------------------------------------------------------

    def connected(self, connection: Connection) -> None:
        """It was dialled for a request."""
        self._write(connection, time.monotonic())

    def answered(self, connection: Connection) -> None:
        """A request has ended well enough to have a status."""
        if self._is_over:
            return
        now = time.monotonic()
        del self._busy[connection]
        reader = connection.reader
        intended = connection.intended
        if intended >= self.began:
            self.tally.answered(reader.status, now - intended)
            if self._on_line is not None:
                kept = bytes(reader.body or b"")
                line = Line(
                    connection.number, intended, connection.sent, now, reader.status, "", reader.head, kept
                )
                self._on_line(line)
        if reader.is_last or not self.plan.keep_alive:
            connection.close()
            self._is_gone(connection, 0.0)
        elif not self._is_open_loop:
            if self._schedule.take(now):
                self._send(connection, now, now)
            else:
                self._idle.append(connection)
                self._look_for_end(now)
        else:
            self._idle.append(connection)
            if self._schedule.next <= now:
                self._pump()
            elif self._schedule.next == math.inf:
                self._look_for_end(now)

    def failed(self, connection: Connection, error: str) -> None:
        """A request has ended without an answer, and its connection with it."""
        if self._is_over:
            return
        del self._busy[connection]
        self._count_error(connection.intended, connection.sent, error, time.monotonic(), connection.number)
        self._is_gone(connection, _PAUSE_S)

    def lost(self, connection: Connection) -> None:
        """An idle connection has ended."""
        if self._is_over:
            return
        self._idle.remove(connection)
        self._is_gone(connection, 0.0)

    def _is_gone(self, connection: Connection, pause_s: float) -> None:
        self._open -= 1
        self.tally.bytes_in += connection.bytes_in
        if not self._is_open_loop:
            self._ask_again(pause_s)
        elif self._schedule.next <= time.monotonic():
            self._pump()
        self._look_for_end(time.monotonic())

    def _count_error(self, intended: float, sent: float, error: str, now: float, number: int = -1) -> None:
        if intended < self.began:
            return
        self.tally.failed(error)
        if self._on_line is not None:
            if number < 0:
                number, self.asked = self.asked, self.asked + 1
            self._on_line(Line(number, intended, sent, now, 0, error, b"", b""))


class _Watch:
    """Cuts the measurement into seconds, and reads this process's CPU time while it sends."""

    def __init__(
        self, tally: Tally, began: float, ends: float, on_tick: Callable[[Point | None], None] | None
    ) -> None:
        self._tally = tally
        self._began = began
        self._ends = ends
        self._on_tick = on_tick
        self._tick_at = time.monotonic() + _TICK_S
        self._cpu_at: float | None = None
        self._is_sending = True

    @property
    def next_at(self) -> float:
        """When `look` has something to do."""
        return min(self._tick_at, self._ends) if self._is_sending else self._tick_at

    def look(self, now: float) -> None:
        """To be called again and again."""
        if self._cpu_at is None and now >= self._began:
            self._cpu_at = time.process_time()
            self._tick_at = self._began + _TICK_S
        if now >= self._ends:
            self._end_sending(now)
        if now < self._tick_at:
            return
        self._tick_at += _TICK_S
        point = None
        if now >= self._began:
            point = self._tally.tick(now - self._began, is_sending=self._is_sending)
        if self._on_tick is not None:
            self._on_tick(point)

    def end(self, now: float) -> None:
        """All that was to end has ended."""
        self._end_sending(now)
        self._tally.tick(max(0.0, now - self._began), is_sending=False)

    def _end_sending(self, now: float) -> None:
        if not self._is_sending:
            return
        self._is_sending = False
        self._tally.tick(max(0.0, now - self._began), is_sending=True)
        if self._cpu_at is not None:
            self._tally.cpu_s = time.process_time() - self._cpu_at


def _kind(error: OSError) -> str:
    """Why no connection came about, in words for a report."""
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if error.errno in _EXHAUSTED:
        return "no file descriptor left here"
    if error.errno in _NO_PORT:
        return "no local port left here"
    return "unreachable"
