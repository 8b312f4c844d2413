"""Lines of many log files in the order of their time: those that are there, and those that are still to come.

A line without a time of its own (a traceback, what user code prints) stays behind the one before it. Lines of the
access log are written up to half a second late, so lines are put in order within a window of `LATE_S`. Files that are
rotated or appear meanwhile are followed, since they are known by their inode and not by their name.
"""

from __future__ import annotations

import heapq
import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO

LATE_S = 1.0
"""How much later than its time a line may be written: a burst of the access log, and the time to look."""

LOOK_S = 0.2
"""How often somebody who follows looks for more: no oftener than a person reads."""

_BLOCK_BYTES = 256 * 1024
_TRACEBACK = 200
"""Lines that may come after one with a time: of the last ones wanted, the first is to know its time, too."""

_STAMP_BYTES = 23
"""`2026-01-31 12:00:00,123`."""

Line = tuple[float, int, bytes]
"""Wall-clock seconds, number (that of the reading, which breaks ties), text with its end."""


class Stamps:
    """Reads the time of a line; whole seconds are remembered, because `mktime` is slow."""

    def __init__(self) -> None:
        self._seconds: dict[bytes, float] = {}

    def read(self, line: bytes) -> float | None:
        """Seconds since the epoch; None for a line without a time."""
        if line.startswith(b"{"):
            return _json_time(line)
        level, _, rest = line.partition(b" ")
        if not level.isupper() or rest[10:11] != b" " or rest[19:20] != b"," or len(rest) < _STAMP_BYTES:
            return None
        second = self._seconds.get(rest[:19])
        if second is None:
            try:
                parsed = time.strptime(rest[:19].decode("ascii"), "%Y-%m-%d %H:%M:%S")
                second = self._seconds[rest[:19]] = time.mktime(parsed)
            except (ValueError, OverflowError):
                return None
            if len(self._seconds) > 10_000:
                self._seconds.clear()
        return second + int(rest[20:23]) / 1000 if rest[20:23].isdigit() else None


def _json_time(line: bytes) -> float | None:
    digits = line.partition(b'"timestamp_ns":')[2].lstrip()[:19]
    return int(digits) / 1e9 if digits.isdigit() else None


def read_all(
    writers: Iterable[Sequence[str]], last: int | None = None, ends: Mapping[str, int] | None = None
) -> Iterator[bytes]:
    """The lines of all files, or only the `last` of them. `writers` are the paths of each writer, the oldest first.

    Files that have gone meanwhile are left out. `ends` are offsets up to which they are read.
    """
    numbers, ends = itertools.count(), ends or {}
    merged = heapq.merge(*(_sorted(_lines_of(paths, last, ends, numbers)) for paths in writers))
    texts = (text for _, _, text in merged)
    return texts if last is None else iter(deque(texts, maxlen=last))


def _lines_of(
    paths: Sequence[str], last: int | None, ends: Mapping[str, int], numbers: Iterator[int]
) -> Iterator[Line]:
    """All lines of a writer, or a few more than the `last`."""
    found: list[tuple[str, int]] = []
    wanted = 0 if last is None else last + _TRACEBACK
    for path in reversed(paths):
        begin, count = (0, 0) if last is None else _tail(path, wanted)
        found.append((path, begin))
        wanted -= count
        if last is not None and wanted <= 0:
            break
    for path, begin in reversed(found):
        yield from _lines(path, begin, ends.get(path), numbers)


def _lines(path: str, begin: int, end: int | None, numbers: Iterator[int]) -> Iterator[Line]:
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError:
        return
    stamps, early = Stamps(), []
    with file:
        at, position = None, file.seek(begin)
        for text in file:
            position += len(text)
            if end is not None and position > end:
                break
            text = text if text.endswith(b"\n") else text + b"\n"
            stamp = stamps.read(text)
            if at is None and stamp is None:
                early.append(text)  # what an imported library says before there is a log
                continue
            if at is None:
                yield from ((stamp or 0.0, next(numbers), one) for one in early)
                early = []
            at = at if stamp is None else stamp
            yield at or 0.0, next(numbers), text
        written_at = os.fstat(file.fileno()).st_mtime
    yield from ((written_at, next(numbers), one) for one in early)


def _sorted(lines: Iterable[Line]) -> Iterator[Line]:
    """`lines`, of which none is more than `LATE_S` late, by time."""
    heap: list[Line] = []
    newest = 0.0
    for line in lines:
        heapq.heappush(heap, line)
        newest = max(newest, line[0])
        while heap[0][0] < newest - LATE_S:
            yield heapq.heappop(heap)
    while heap:
        yield heapq.heappop(heap)


def _tail(path: str, lines: int) -> tuple[int, int]:
    """Where the last `lines` lines of a file begin, and how many there are, should it have fewer."""
    try:
        with open(path, "rb") as file:
            return _tail_offset(file, lines)
    except OSError:
        return 0, 0


def _tail_offset(file: BinaryIO, lines: int) -> tuple[int, int]:
    at = file.seek(0, os.SEEK_END)
    found = -1  # the end of the last line ends no line before it
    while at > 0:
        size = min(_BLOCK_BYTES, at)
        at -= size
        file.seek(at)
        block = file.read(size)
        count = block.count(b"\n")
        if found + count >= lines:
            position = len(block)
            for _ in range(lines - found):
                position = block.rindex(b"\n", 0, position)
            return at + position + 1, lines
        found += count
    return 0, found + 1


class Followed:
    """An open file; `read` gives the whole lines that have come since."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._rest = b""
        self._stamps = Stamps()

    def read(self, now: float) -> Iterator[tuple[float, bytes]]:
        """(time, text); a line without a time that begins what has come is as old as `now`."""
        at = now
        while block := self._file.read(_BLOCK_BYTES):
            *lines, self._rest = (self._rest + block).split(b"\n")
            for line in lines:
                at = self._stamps.read(line) or at
                yield at, line + b"\n"

    def has_gone(self) -> bool:
        """Whether nobody can write to it any more, all of it having been read."""
        return os.fstat(self._file.fileno()).st_nlink == 0

    def close(self) -> None:
        self._file.close()


class Follower:
    """Follows the files that `find` names, as `read_all` has them, now and later. `close` lets go of them."""

    def __init__(
        self, find: Callable[[], Iterable[Sequence[str]]], clock: Callable[[], float] = time.time
    ) -> None:
        self._find = find
        self._clock = clock
        self._files: dict[tuple[int, int], Followed] = {}
        self._heap: list[Line] = []
        self._numbers = itertools.count()

    def begin(self, last: int) -> list[bytes]:
        """The `last` lines of what is there; everything behind them is left to `look`."""
        writers = list(self._find())
        ends = {path: self._open(path, at_end=True) for paths in writers for path in paths}
        return list(read_all(writers, last, ends)) if last else []

    def look(self) -> list[bytes]:
        """What has come and is old enough for nothing earlier to come after it."""
        now = self._clock()
        for path in itertools.chain.from_iterable(self._find()):
            self._open(path)
        for identity, file in list(self._files.items()):
            for at, text in file.read(now):
                heapq.heappush(self._heap, (at, next(self._numbers), text))
            if file.has_gone():
                self._files.pop(identity).close()
        found = []
        while self._heap and self._heap[0][0] <= now - LATE_S:
            found.append(heapq.heappop(self._heap)[2])
        return found

    def follow(self) -> Iterator[list[bytes]]:
        """`look` for ever."""
        while True:
            yield self.look()
            time.sleep(LOOK_S)

    def close(self) -> None:
        while self._files:
            self._files.popitem()[1].close()

    def _open(self, path: str, *, at_end: bool = False) -> int:
        """Where reading begins: at the file's first line, or behind its last whole one."""
        try:
            if _identity(os.stat(path)) in self._files:
                return 0
            file = open(path, "rb")  # noqa: SIM115
        except OSError:
            return 0
        offset = _tail_offset(file, 0)[0] if at_end else 0
        file.seek(offset)
        self._files[_identity(os.fstat(file.fileno()))] = Followed(file)
        return offset


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
