"""Points of one kind in little memory: rows of 16-bit codes in a ring that is as long as it has been filled.

A code is the logarithm of a number: whole numbers up to 2,900 come out as they went in, others to within
0.04 % (small fractions: 0.001). Pure: slots are numbers that grow, and what a slot means is the caller's.
"""

from __future__ import annotations

import struct
from array import array
from functools import cache
from math import expm1, log1p

NOTHING = 0xFFFF
"""The code of what is not known."""

_STEPS = 2900
"""Codes for each factor of e: the largest is worth 6.5e9."""


def code_of(value: float) -> int:
    """The code of a number >= 0."""
    return min(round(log1p(max(value, 0.0)) * _STEPS), NOTHING - 1)


@cache
def values() -> array[float]:
    """The number of each code; made when somebody first reads. That of NOTHING means nothing."""
    return array("d", (expm1(code / _STEPS) for code in range(NOTHING + 1)))


class Ring:
    """Rows of `width` codes for the last `capacity` slots, the first one being `first`."""

    def __init__(self, width: int, capacity: int, first: int) -> None:
        self._row = struct.Struct(f"<{width}H")
        self._capacity = capacity
        self._first = first
        self._data = bytearray()
        self.next = first
        """The slot that is written next; those before are complete."""

    @property
    def oldest(self) -> int:
        """The first slot that is still there."""
        return max(self._first, self.next - self._capacity)

    @property
    def size_bytes(self) -> int:
        """What the rows take."""
        return len(self._data)

    def row(self, codes: list[int]) -> bytes:
        """A row as it is kept."""
        return self._row.pack(*codes)

    def write(self, row: bytes) -> None:
        """Writes the slot `next`."""
        self.fill(self.next + 1, row)

    def fill(self, until: int, row: bytes) -> None:
        """Writes the same row to all slots from `next` to before `until`; none when it is not later."""
        count = until - self.next
        if count >= self._capacity:
            self._first = until - self._capacity
            self._data = bytearray(row * self._capacity)
            self.next = until
            return
        while count > 0:
            at = (self.next - self._first) % self._capacity
            fits = min(count, self._capacity - at)
            self._data[at * len(row) : (at + fits) * len(row)] = row * fits  # at the end this appends
            self.next += fits
            count -= fits

    def read(self, slot: int, until: int) -> list[tuple[int, ...] | None]:
        """Rows of the slots from `slot` to before `until`; None for what is not there, or no more."""
        first, last = max(slot, self.oldest), min(until, self.next)
        if first >= last:
            return [None] * max(until - slot, 0)
        width = self._row.size
        at, count = (first - self._first) % self._capacity, last - first
        straight = min(count, self._capacity - at)
        rows: list[tuple[int, ...] | None] = [None] * (first - slot)
        rows += self._row.iter_unpack(self._data[at * width : (at + straight) * width])
        rows += self._row.iter_unpack(self._data[: (count - straight) * width])
        rows += [None] * (until - last)
        return rows
