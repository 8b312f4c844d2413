"""Which rate to try next, on the way to the highest one that keeps a promise: doubling, then bisection, then a proof.

Noise of a machine makes answers late, never early. So one trial that holds is believed on the way, a failure only when
it comes twice, and the rate that is found has to hold in two of three trials once more. Pure.
"""

from __future__ import annotations

import math

PRECISION = 0.05
"""How close the greatest rate that holds and the least that does not have to come, as a share of it."""

LOWEST, HIGHEST = 0.1, 1e6
"""Requests a second beyond which nothing is looked for."""

_ENOUGH = 2
"""Trials that agree."""


class Search:
    """Ask `rate`, try it, `tell`; until `rate` is None. Then `best` is the answer, None when no rate holds."""

    def __init__(self, start: float, *, precision: float = PRECISION) -> None:
        self.rate: float | None = min(max(start, LOWEST), HIGHEST)
        self.best: float | None = None
        self.low: float | None = None
        """The greatest rate that has held."""
        self.high: float | None = None
        """The least that has not."""
        self._precision = precision
        self._held = self._failed = 0
        self._is_proving = False
        self._refuted = 0

    def tell(self, held: bool) -> None:
        """Whether the trial of `rate` kept the promise."""
        rate = self.rate
        assert rate is not None, "the search has ended"
        self._held += held
        self._failed += not held
        if self._failed >= _ENOUGH:
            held = False
        elif self._held < _ENOUGH and (self._failed or self._is_proving):
            return  # once more
        self._held = self._failed = 0
        if not self._is_proving:
            self._narrow(rate, held)
        elif held:
            self.best, self.rate = rate, None
        else:
            self._go_lower(rate)

    def _narrow(self, rate: float, held: bool) -> None:
        if held:
            self.low = rate
        else:
            self.high = rate
        if self.low is None:
            self.rate = rate / 2 if rate / 2 >= LOWEST else None
        elif self.high is None and rate < HIGHEST:
            self.rate = min(rate * 2, HIGHEST)
        elif self.high is None or self.high / self.low <= 1 + self._precision:
            self._is_proving = True
            self.rate = self.low
        else:
            self.rate = math.sqrt(self.low * self.high)

    def _go_lower(self, rate: float) -> None:
        """What held once was luck: the steps down become greater, so this ends soon."""
        self.high = rate
        self.low = rate / (1 + self._precision) ** (2**self._refuted)
        self._refuted += 1
        self.rate = self.low if self.low >= LOWEST else None
