"""Batches that keep a latency target: learns how long a batch of n takes, and picks size and wait by it.

time(n) = per_item_s * n + fixed_s is fitted to the last batches. Whatever waits starts as soon as a batch may run,
unless waiting for the next arrival pays: a newcomer that just misses a batch waits for the whole of it, so while its
fixed part is larger than what all who wait would lose together, waiting shortens the mean. Whether that is true is
tried, not believed: some batches always start at once, and waiting is used only while it does better.

A batch takes all that wait, while its oldest item is in time that way. In a backlog, smaller batches would only be
slower ones, so then the batch begins with the oldest item that can still be in time: those before it are late whatever
is done, and get the room that others leave. So a stall makes those late who waited through it, and nobody after them.

Pure: time is passed in. After Clipper (additive growth, multiplicative cut), BentoML's dispatcher (the regression) and
Clockwork (do not let the hopeless make the others late).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from statistics import median

from eagleray.serve.batch_policy import Waiting

WINDOW = 64
"""Batches that the fit looks at."""
_HALF_LIFE = 16.0
"""Batches after which a sample counts half."""
_BREAK = 4
"""So many batches in a row off to the same side mean that the model has changed: what came before is forgotten."""
_REFIT = 8
"""Batches from one fit to the next, once there are twice as many: a fit takes as long as half an item of a quick model,
and everybody who waits would wait for it."""
_OFF = 0.15
"""Share of the predicted time beyond which a batch counts as off."""
_WAY_S = 0.001
"""Seconds that are kept for what the batcher does not see, the way from and to the client..."""
_WAY_SHARE = 0.02
"""...but no more than this share of the target."""
_PATIENCE = 8
"""Targets after which a late item is not passed over any more..."""
_LATE_SHARE = 4
"""...but gets a place in this share of a batch."""
_BLAMED = 3
"""Large batches in a row that take longer than the target, and than predicted, are too large; one had bad luck."""
_MANY = 1 << 30
_ROUND = 8
"""Batches between two decisions whether waiting is worth it."""
_MARGIN = 0.97
"""Waiting must shorten the mean time to an answer at least to this share."""


class TimeModel:
    """time(n) = per_item_s * n + fixed_s, by weighted least squares that hardly listens to outliers."""

    __slots__ = ("_new", "_off", "_samples", "fixed_s", "noise_s", "per_item_s")

    def __init__(self) -> None:
        self.per_item_s = 0.0
        self.fixed_s = 0.0
        self.noise_s = 0.0
        """Usual distance of a batch from its prediction."""
        self._samples: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self._new = 0
        """Samples that the fit has not seen."""
        self._off = 0

    @property
    def is_known(self) -> bool:
        return bool(self._samples)

    def predict(self, size: float) -> float:
        """Seconds that a batch of this size takes; 0 while nothing is known."""
        return self.fixed_s + self.per_item_s * size

    def largest(self, seconds: float) -> float:
        """The largest size that is done within `seconds`; 0 when even the fixed part takes longer."""
        spare = seconds - self.fixed_s
        if spare <= 0:
            return 0.0
        return spare / self.per_item_s if self.per_item_s > 0 else math.inf

    def observe(self, size: float, seconds: float) -> None:
        """A batch of `size` has taken `seconds`."""
        if self._samples:
            self._watch(self.predict(size), seconds)
        self._samples.append((size, seconds))
        self._new += 1
        if abs(self._off) >= _BREAK:
            self._begin_anew()
        if self._new >= _REFIT or len(self._samples) < 2 * _REFIT:
            self._fit()

    def _watch(self, expected: float, seconds: float) -> None:
        error = seconds - expected
        if abs(error) <= max(_OFF * expected, 3 * self.noise_s):
            self._off = 0
        else:
            side = 1 if error > 0 else -1
            self._off = self._off + side if self._off * side > 0 else side

    def _begin_anew(self) -> None:
        recent = list(self._samples)[-_BREAK:]
        expected = sum(self.predict(size) for size, _ in recent)
        # Both parts are taken to have changed alike, until batches of different sizes tell them apart.
        scale = sum(seconds for _, seconds in recent) / expected if expected > 0 else 1.0
        self.per_item_s *= scale
        self.fixed_s *= scale
        self.noise_s = 0.0
        self._samples.clear()
        self._samples.extend(recent)
        self._off = 0

    def _fit(self) -> None:
        """Samples count by their age and by how well the former fit explains them, so an outlier cannot bend it."""
        self._new = 0
        samples = self._samples
        ages = [0.5 ** (age / _HALF_LIFE) for age in range(len(samples) - 1, -1, -1)]
        if len(samples) == 1:
            size, seconds = samples[0]
            # Nothing tells the parts apart yet: half and half.
            self.per_item_s = seconds / 2 / size if size else 0.0
        if len(samples) <= _BREAK:
            self._solve(ages)
        else:
            for _ in range(2):
                reach = 3 * max(self._usual_error(), 0.01 * self.predict(samples[-1][0])) + 1e-9
                errors = (abs(seconds - self.predict(size)) for size, seconds in samples)
                self._solve(
                    [
                        age if error <= reach else age * (reach / error) ** 4
                        for age, error in zip(ages, errors, strict=True)
                    ]
                )
        self.noise_s = self._usual_error()

    def _solve(self, weights: list[float]) -> None:
        samples = self._samples
        total = sum(weights)
        size = sum(w * n for w, (n, _) in zip(weights, samples, strict=True)) / total
        seconds = sum(w * t for w, (_, t) in zip(weights, samples, strict=True)) / total
        spread = sum(w * (n - size) ** 2 for w, (n, _) in zip(weights, samples, strict=True))
        joint = sum(w * (n - size) * (t - seconds) for w, (n, t) in zip(weights, samples, strict=True))
        # Batches of one size say nothing about the slope; then it stays what it was.
        doubt = total * (0.05 * size) ** 2 + 1e-12
        slope = (joint + doubt * self.per_item_s) / (spread + doubt)
        slope = min(max(slope, 0.0), seconds / size if size else 0.0)
        self.per_item_s = slope
        self.fixed_s = seconds - slope * size

    def _usual_error(self) -> float:
        return 1.48 * median(abs(seconds - self.predict(size)) for size, seconds in self._samples)


class ArrivalRate:
    """Arrivals per second, over the last second or the last few hundred, whichever is shorter."""

    __slots__ = ("_at", "_count", "_rate")

    _PERIOD_S = 0.05

    def __init__(self) -> None:
        self._at = -math.inf
        self._count = 0
        self._rate = 0.0

    def note(self, count: int, now: float) -> None:
        """`count` items have arrived since the last note."""
        self._count += count
        elapsed = now - self._at
        if elapsed < self._PERIOD_S:
            return
        if elapsed < math.inf:
            weight = min(1.0, elapsed / (4 * self._PERIOD_S))
            self._rate += weight * (self._count / elapsed - self._rate)
        self._at = now
        self._count = 0

    @property
    def per_s(self) -> float:
        return self._rate


class Trial:
    """Is waiting worth it? Rounds of batches with and without it, compared by the mean time from arrival to answer."""

    __slots__ = ("_batches", "_items", "_means", "_round", "_seconds", "waits")

    def __init__(self) -> None:
        self.waits = False
        """Whether the present round may wait."""
        self._means: dict[bool, float | None] = {False: None, True: None}
        self._round = 0
        self._batches = 0
        self._items = 0
        self._seconds = 0.0

    def observe(self, items: int, seconds: float) -> None:
        """A batch has answered `items`, which took `seconds` together since they arrived."""
        self._batches += 1
        self._items += items
        self._seconds += seconds
        if self._batches < _ROUND:
            return
        mean, old = self._seconds / self._items, self._means[self.waits]
        self._means[self.waits] = mean if old is None else (mean + old) / 2
        self._batches = self._items = 0
        self._seconds = 0.0
        self._round += 1
        control, trial = self._means[False], self._means[True]
        is_better = control is not None and trial is not None and trial < _MARGIN * control
        # The loser gets every eighth round, in case things have changed.
        self.waits = is_better != (self._round % 8 == 1)


class TargetPolicy:
    """Keeps `target_s` from an item's arrival to its answer where that is possible.

    `max_size` and `max_wait_s` are upper bounds. `concurrency`: how many batches may run at once.
    """

    def __init__(self, target_s: float, max_size: int, max_wait_s: float, concurrency: int = 1) -> None:
        self.target_s = target_s
        self.concurrency = concurrency
        self.max_size = max_size
        self.max_wait_s = max_wait_s
        self.time = TimeModel()
        self.rate = ArrivalRate()
        self.trial = Trial()
        self.limit = 1.0
        """No batch is larger: grows while batches end in time, is cut when several took longer than the target."""
        self._overruns = 0

    # ---- decisions -------------------------------------------------------------------------------------------

    def due(self, oldest: float, count: int, size: float, now: float) -> float:
        rate = self.rate.per_s
        if not self.trial.waits or not rate or size >= self.limit or not self.time.is_known:
            return now
        gap = 1.0 / rate
        each = size / count * self.time.per_item_s
        if (count + 1) * gap + count * each >= self.time.fixed_s:
            return now  # those who wait would lose more than the newcomer gains
        latest = oldest + min(
            self.max_wait_s, self._planned_s - self.time.predict(size * (count + 1) / count)
        )
        return min(now + 2 * gap, latest)

    def choose(self, items: Sequence[Waiting], most: int, each: float, now: float) -> Sequence[int]:
        most = max(1, min(most, int(self.limit / each))) if each > 0 else most
        planned = self._planned_s
        if not self.time.is_known or now - items[0].arrived + self.time.predict(most * each) <= planned:
            return range(most)
        count = len(items)

        def is_in_time(index: int) -> bool:
            """In the batch that begins with this item."""
            return now - items[index].arrived + self.time.predict(min(count - index, most) * each) <= planned

        first = bisect_left(range(count), True, key=is_in_time)
        size = min(count - first, most)
        in_time = self._fitting(planned - (now - items[0].arrived), each)
        if size and in_time >= size:
            return range(min(in_time, most))
        if not self._pays(items, first, size, most, now + self.time.predict(most * each) - planned):
            return range(most)  # oldest first, and as many as go, because large batches are quick ones
        forgotten = self._forgotten(items, min(first, most // _LATE_SHARE), now)
        size = min(size, most - forgotten)
        room = min(
            self._fitting(planned - (now - items[first].arrived), each),
            # What comes while this batch runs waits for it and for its own.
            self._fitting(planned * self.concurrency / (self.concurrency + 1), each),
            most,
        )
        late = min(first, max(forgotten, room - size))
        return [*range(late), *range(first, first + size)]

    def _pays(self, items: Sequence[Waiting], first: int, size: int, most: int, since: float) -> bool:
        """Whether passing over `first` items saves at least half as many, for whom a batch of the oldest is too late.

        In such a batch, all are in time that came at `since` or later.
        """
        saved_anyway = most - bisect_left(range(most), True, key=lambda index: items[index].arrived >= since)
        return 2 * (size - saved_anyway) >= min(first, size) and size > saved_anyway

    @property
    def _planned_s(self) -> float:
        # No margin for noise: to give up an item that would have been in time costs as much as to be late with one.
        return self.target_s - min(_WAY_S, _WAY_SHARE * self.target_s)

    def _fitting(self, seconds: float, each: float) -> int:
        """How many items are done within `seconds`."""
        size = self.time.largest(seconds)
        return int(min(size / each, _MANY)) if each > 0 else _MANY

    def _forgotten(self, items: Sequence[Waiting], most: int, now: float) -> int:
        """How many items at the front have been passed over for too long."""
        for count in range(most):
            if now - items[count].arrived <= _PATIENCE * self.target_s:
                return count
        return most

    # ---- learning --------------------------------------------------------------------------------------------

    def arrived(self, count: int, now: float) -> None:
        self.rate.note(count, now)

    def done(self, items: Sequence[Waiting], size: float, started: float, ended: float) -> None:
        """A batch has been answered."""
        took = ended - started
        expected = self.time.predict(size) if self.time.is_known else math.inf
        self.time.observe(size, took)
        if ended - items[0].arrived > self.target_s:
            self.trial = Trial()  # what was found under a load that is not the present one says nothing
        else:
            self.trial.observe(len(items), sum(ended - item.arrived for item in items))
        is_overrun = took > self.target_s and took > 1.25 * expected and size > self.limit / 2
        self._overruns = self._overruns + 1 if is_overrun else 0
        if self._overruns == _BLAMED:
            self._overruns = 0
            self.limit = max(1.0, 0.75 * size)
        elif size >= self.limit - 1 and self.limit < self.max_size:
            # Doubling until a batch of the double size would take half of the target, then step by step.
            quick = self.time.predict(2 * self.limit) < self.target_s / 2
            self.limit = min(
                self.max_size, self.limit * 2 if quick else self.limit + max(1.0, self.limit / 16)
            )
