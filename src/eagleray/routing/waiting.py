"""Calls that wait for a replica: one line for each preference, oldest first; a line never holds up another one.

A deployment whose calls prefer no replica has a single line, "".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from eagleray.routing.board import Board
from eagleray.routing.call import QUEUED, RoutedCall

PATIENCE_S = 1.0
"""Seconds that a call waits for the replicas that have its model or session when they are full; then any will do. Ray
Serve waits one to two seconds."""


LATE_S = 0.001
"""Timers may be early by their resolution, which is a millisecond in uvloop."""


class Timer(Protocol):
    def cancel(self) -> object: ...


After = Callable[[float, Callable[[], object]], Timer]
"""Calls back once, in so many seconds."""


class Waiting:
    """`count` is exact. A call that leaves from the middle stays in its line until it comes to the head.

    `board`, where there is one, shares the count with other routers.
    """

    __slots__ = ("_lines", "board", "count")

    def __init__(self) -> None:
        self.count = 0
        self.board: Board | None = None
        self._lines: dict[str, deque[RoutedCall]] = {}

    def __iter__(self) -> Iterator[RoutedCall]:
        for line in self._lines.values():
            for call in line:
                if call.state == QUEUED:
                    yield call

    @property
    def has_preferences(self) -> bool:
        """Whether some call waits for particular replicas."""
        return len(self._lines) > 1 or (bool(self._lines) and "" not in self._lines)

    def add(self, call: RoutedCall, *, first: bool = False) -> None:
        """`call.line` says where; with `first`, before the others there."""
        line = self._lines.get(call.line)
        if line is None:
            line = self._lines[call.line] = deque()
        if first:
            line.appendleft(call)
        else:
            line.append(call)
        self._counted(1)

    def _counted(self, delta: int) -> None:
        self.count += delta
        if self.board is not None:
            self.board.add(delta)

    def share(self, board: Board) -> None:
        """From now on those who wait here are counted on `board` too."""
        self.board = board
        board.add(self.count)

    def undo(self, call: RoutedCall) -> None:
        """`call`, which was the last to be added, at either end of its line, goes."""
        line = self._lines[call.line]
        if line[-1] is call:
            line.pop()
        else:
            line.popleft()
        self._counted(-1)

    def heads(self) -> list[RoutedCall]:
        """The first of each line, the one that has waited longest first."""
        found = []
        for name, line in list(self._lines.items()):
            while line and line[0].state != QUEUED:
                line.popleft()
            if line:
                found.append(line[0])
            else:
                del self._lines[name]
        if len(found) > 1:
            found.sort(key=since)
        return found

    def take(self, head: RoutedCall) -> None:
        """`head`, the first of its line, goes."""
        self._lines[head.line].popleft()
        self._counted(-1)

    def pull(self, call: RoutedCall) -> None:
        """`call` goes, wherever it stands."""
        self._lines[call.line].remove(call)
        self._counted(-1)

    def forget(self, call: RoutedCall) -> None:
        """`call`, whose state says so already, waits no more; it is passed over later unless the dead outnumber the
        living."""
        self._counted(-1)
        line = self._lines.get(call.line)
        if line is not None and len(line) > 2 * self.count + 64:
            self._lines[call.line] = deque(waiting for waiting in line if waiting.state == QUEUED)

    def clear(self) -> list[RoutedCall]:
        """Takes all calls out."""
        calls = list(self)
        self._lines.clear()
        self._counted(-self.count)
        return calls


def since(call: RoutedCall) -> float:
    """The order of those that wait."""
    return call.since


class Patience:
    """Decides which calls still wait for the replicas that they prefer, and calls `wake` when that has changed.

    Whoever is told to wait has an alarm from that moment on: with a second look at the clock for the alarm, a call
    whose time ends between the two looks would wait for ever.
    """

    def __init__(self, after: After, clock: Callable[[], float], wake: Callable[[], object]) -> None:
        self._after = after
        self._clock = clock
        self._wake = wake
        self._alarm: Timer | None = None

    def has(self, call: RoutedCall) -> bool:
        """Whether `call`, the head of its line, is to wait for the replicas that it prefers.

        Heads are asked about in the order of their age: the first one to be told so is the first whose time ends.
        """
        if not call.since:
            return True
        left_s = call.since + PATIENCE_S - self._clock()
        if left_s <= 0:
            return False
        if self._alarm is None and call.line:
            self._alarm = self._after(left_s + LATE_S, self._on_alarm)
        return True

    def _on_alarm(self) -> None:
        self._alarm = None
        self._wake()

    def close(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
