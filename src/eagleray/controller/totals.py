"""Adding up series of several processes: same labels are one series, counters and histograms grow, gauges add up.

Pure: plain tables of numbers in memory.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

from eagleray.base.metrics import GAUGE, MOST_SERIES, OVERFLOW, Sample, Snapshot

Labels = tuple[str, ...]


@dataclass
class Table:
    """One metric of one process, or of several added up."""

    name: str
    kind: str
    help: str
    label_names: Labels
    bounds: tuple[float, ...]
    samples: dict[Labels, Sample] = field(default_factory=dict)

    @classmethod
    def of(cls, snapshot: Snapshot) -> Table:
        samples = {sample.labels: sample for sample in snapshot.samples}
        return cls(
            snapshot.name, snapshot.kind, snapshot.help, snapshot.label_names, snapshot.bounds, samples
        )

    def snapshot(self) -> Snapshot:
        samples = list(self.samples.values())
        return Snapshot(self.name, self.kind, self.help, self.label_names, self.bounds, samples)


Tables = dict[str, Table]
"""By the metric's name."""


def merge(
    into: Tables, table: Table, samples: Iterable[tuple[Labels, Sample]], most: int | None = MOST_SERIES
) -> int:
    """Adds `samples` of `table` to the table of its name; says how many were one too many for it.

    A metric whose labels have changed meanwhile keeps the table that was there first, under labels of that one.
    """
    target = into.get(table.name)
    if target is None:
        target = into[table.name] = Table(table.name, table.kind, table.help, table.label_names, table.bounds)
    names, folded = target.label_names, 0
    for labels, sample in samples:
        if names != table.label_names:
            given = dict(zip(table.label_names, labels, strict=True))
            labels = tuple(given.get(name, "") for name in names)
        known = target.samples.get(labels)
        if known is None and most is not None and len(target.samples) >= most:
            folded += 1
            labels = (OVERFLOW,) * len(names)
            known = target.samples.get(labels)
        if known is None and target.bounds == table.bounds:
            target.samples[labels] = Sample(labels, sample.value, sample.counts, sample.exemplar)
        else:
            target.samples[labels] = _sum(labels, known, sample, target.bounds, table.bounds)
    return folded


def take_forgotten(table: Table, told: Snapshot | None, *, is_whole: bool) -> Table:
    """Takes out of `table` what its process no longer counts, or counts from 0 again, and gives that. Gauges stay.

    `told` is what the process says now; with `is_whole` that is all that it has, and None is nothing.
    """
    gone = Table(table.name, table.kind, table.help, table.label_names, table.bounds)
    if table.kind == GAUGE:
        return gone
    labels = set(told.gone) if told is not None else set()
    if is_whole:  # what had gone in between was perhaps not heard
        now = {sample.labels: sample for sample in told.samples} if told is not None else {}
        labels.update(one for one, sample in table.samples.items() if _is_less(now.get(one), sample))
    for one in labels & table.samples.keys():
        gone.samples[one] = table.samples.pop(one)
    return gone


def _is_less(now: Sample | None, before: Sample) -> bool:
    """Whether a series has begun anew, or is not there."""
    if now is None:
        return True
    if now.counts is not None and before.counts is not None:
        return sum(now.counts) < sum(before.counts)
    return now.value < before.value


def _sum(
    labels: Labels,
    known: Sample | None,
    sample: Sample,
    bounds: tuple[float, ...],
    given: tuple[float, ...],
) -> Sample:
    counts, value, exemplar = sample.counts, sample.value, sample.exemplar
    if counts is not None and bounds != given:
        counts = rebucket(counts, given, bounds)
    if known is not None:
        value += known.value
        exemplar = exemplar or known.exemplar
        if counts is not None and known.counts is not None:
            counts = [a + b for a, b in zip(counts, known.counts, strict=True)]
    return Sample(labels, value, counts, exemplar)


def rebucket(counts: list[int], given: tuple[float, ...], wanted: tuple[float, ...]) -> list[int]:
    """Counts of the buckets `given` in the buckets `wanted`: each goes where its upper bound lies."""
    found = [0] * (len(wanted) + 1)
    for index, count in enumerate(counts):
        place = bisect_left(wanted, given[index]) if index < len(given) else len(wanted)
        found[place] += count
    return found
