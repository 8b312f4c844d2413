"""What the whole instance has counted: the last totals of every process, also of those that have ended.

A counter must not go backwards because a process has gone. The counters and histograms of one that has ended stay:
those of the last few as they were, older ones added up. Series that name a process keep its name at first; once added
up they are called `retired-<how many were added>`. The name changes with each one more, because a known series that
jumped up would be taken for traffic by `rate()`, and one that appears with its value is not. So are counters added up
that a living process forgets, as those of deleted deployments. What is read now (gauges) ends with its process.

Plain data on the controller's loop; who asks is told what has arrived, and nobody is waited for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from eagleray.base.metrics import FOLDED, GAUGE, MOST_SERIES, Registry, Sample, Snapshot
from eagleray.controller.totals import Table, Tables, merge, take_forgotten

RETAINED = 10
"""Ended processes of one group (a deployment, all proxies, all drivers) whose series stay as they were; Ray's number
of dead replicas."""

MOST_GROUPS = 200
"""Groups whose ended processes are remembered apart; deployments that came and went long ago are one."""

MOST_FORGOTTEN = 100
"""Series of one metric that a group's living processes have forgotten and that are still told apart."""

PROCESS_LABELS = frozenset({"replica", "replica_id", "actor_id"})
"""Labels that name a process."""

Group = tuple[str, str]
"""Application and deployment of a replica; else its kind of process and an empty name."""

_OTHERS: Group = ("", "")


@dataclass
class HistogramTotal:
    """`counts` are of the buckets up to each of `bounds`, and beyond the last; they are not cumulative."""

    bounds: tuple[float, ...]
    counts: list[int]
    sum: float = 0.0
    count: int = 0


@dataclass
class _Source:
    group: Group
    tables: Tables = field(default_factory=dict)


@dataclass
class _Retired:
    """What a group's processes have counted that ended long ago, and what its living ones have forgotten."""

    number: int = 0
    tables: Tables = field(default_factory=dict)


class _Dump(msgspec.Struct):
    ended: list[tuple[str, Group, list[Snapshot]]]
    retired: list[tuple[Group, int, list[Snapshot]]]


class Telemetry:
    """`begin` and `ended` frame what a source tells; a source that begins again goes on."""

    def __init__(self, registry: Registry | None = None) -> None:
        self.registry = registry or Registry()
        """The controller's own."""
        self.version = 0
        """Grows with all news: who has seen it need not ask again."""
        self.extras: list[Callable[[], list[Snapshot]]] = []
        """Asked for more whenever somebody reads; what they give is of the controller."""
        self.before_read: Callable[[], object] = _nothing
        """Called before `snapshots` reads, for what is measured only then."""
        self.on_tell: Callable[[str, Tables, Sequence[Snapshot]], object] = _nothing
        """Called with what a source is about to tell, and with all that it has told before (none: nothing yet)."""
        self.on_end: Callable[[Tables], object] = _nothing
        """Called with all that a source has told, when its gauges end: it has, or it says all it has anew."""
        self._sources: dict[str, _Source] = {}
        self._ended: dict[Group, OrderedDict[str, _Source]] = {}
        self._retired: OrderedDict[Group, _Retired] = OrderedDict()
        self._refused = self.registry.gauge(
            "eagleray_metrics_refused",
            "Series left out because their name has another kind in another process.",
        ).value()

    # ---- sources -----------------------------------------------------------------------------------------------

    def begin(self, source: str, group: Group) -> None:
        """A process is about to tell; what it has told before, if it is known, still counts."""
        if source not in self._sources:
            ended = self._ended.get(group)
            known = ended.pop(source, None) if ended is not None else None
            self._sources[source] = known or _Source(group)

    def tell(self, source: str, snapshots: Sequence[Snapshot], *, is_whole: bool = False) -> None:
        """Takes over what a living source says; others are ignored. `is_whole`: it says everything that it has."""
        known = self._sources.get(source)
        if known is None:
            return
        if is_whole:
            self.on_end(known.tables)
            known.tables = {name: table for name, table in known.tables.items() if table.kind != GAUGE}
        self._take_forgotten(known, snapshots, is_whole)
        self.on_tell(source, known.tables, snapshots)
        for snapshot in snapshots:
            table = known.tables.get(snapshot.name)
            if table is None or table.label_names != snapshot.label_names:
                table = known.tables[snapshot.name] = Table.of(snapshot)
            if table.kind == GAUGE:  # counters were taken before
                for labels in snapshot.gone:
                    table.samples.pop(labels, None)
            for sample in snapshot.samples:
                table.samples[sample.labels] = sample
        self.version += 1

    def _take_forgotten(self, known: _Source, snapshots: Sequence[Snapshot], is_whole: bool) -> None:
        """Counters that their process has forgotten are still part of the sum; it may count on them again from 0."""
        told = {snapshot.name: snapshot for snapshot in snapshots}
        names = known.tables if is_whole else [one.name for one in snapshots if one.gone]
        tables = [table for name in names if (table := known.tables.get(name)) is not None]
        gone = [take_forgotten(table, told.get(table.name), is_whole=is_whole) for table in tables]
        gone = [table for table in gone if table.samples]
        if gone:
            self._retire(known.group, {table.name: table for table in gone}, MOST_FORGOTTEN)

    def ended(self, source: str) -> None:
        """The process is gone. Idempotent."""
        known = self._sources.pop(source, None)
        if known is None:
            return
        self.on_end(known.tables)
        known.tables = {name: table for name, table in known.tables.items() if table.kind != GAUGE}
        group = self._ended.setdefault(known.group, OrderedDict())
        group[source] = known
        if len(group) > RETAINED:
            _, oldest = group.popitem(last=False)
            self._retire(known.group, oldest.tables)
        if len(self._ended) > MOST_GROUPS:
            self._forget_a_group()
        self.version += 1

    def _retire(self, group: Group, tables: Tables, most: int = MOST_SERIES) -> None:
        retired = self._retired.setdefault(group, _Retired())
        self._retired.move_to_end(group)
        retired.number += 1
        for table in tables.values():
            self._add(retired.tables, table, _anonymous(table), most)

    def _forget_a_group(self) -> None:
        """Of the oldest group without a living process only sums stay."""
        living = {source.group for source in self._sources.values()}
        group = next((one for one in self._ended if one not in living), None)
        if group is None:
            return
        for source in self._ended.pop(group).values():
            self._retire(group, source.tables)
        if group != _OTHERS:
            gone = self._retired.pop(group)
            others = self._retired.setdefault(_OTHERS, _Retired())
            others.number += gone.number
            for table in gone.tables.values():
                self._add(others.tables, table, table.samples.items())

    def _add(
        self,
        into: Tables,
        table: Table,
        samples: Iterable[tuple[tuple[str, ...], Sample]],
        most: int = MOST_SERIES,
    ) -> None:
        if folded := merge(into, table, samples, most):
            help = "Label sets beyond a metric's bound, counted together."
            self.registry.counter(FOLDED, help, "metric").value(table.name).inc(folded)

    # ---- over a restart of the controller ----------------------------------------------------------------------

    def dump(self) -> bytes:
        """What nobody will tell again: of the processes that have ended."""
        ended = [
            (name, source.group, [table.snapshot() for table in source.tables.values()])
            for group in self._ended.values()
            for name, source in group.items()
        ]
        retired = [
            (group, one.number, [table.snapshot() for table in one.tables.values()])
            for group, one in self._retired.items()
        ]
        return msgspec.msgpack.encode(_Dump(ended, retired))

    def load(self, data: bytes) -> None:
        """Takes over the `dump` of a former controller, before anything else. Raises msgspec.DecodeError."""
        dump = msgspec.msgpack.decode(data, type=_Dump)
        for name, group, snapshots in dump.ended:
            self._ended.setdefault(group, OrderedDict())[name] = _Source(group, _tables(snapshots))
        for group, number, snapshots in dump.retired:
            self._retired[group] = _Retired(number, _tables(snapshots))

    # ---- readers -----------------------------------------------------------------------------------------------

    def sum(
        self, name: str, by: tuple[str, ...] = (), where: Mapping[str, str] | None = None
    ) -> dict[tuple[str, ...], float]:
        """Values of counters or gauges added up over all series of `name` (the registry's name, without `ray_`).

        Of series that have all labels of `where` with these values, one number for each combination of the values of
        the labels `by`; a label that a series lacks is "".
        """
        sums: dict[tuple[str, ...], float] = {}
        for table in self._tables(name):
            for key, sample in _chosen(table, by, where or {}):
                sums[key] = sums.get(key, 0.0) + sample.value
        return sums

    def histogram(
        self, name: str, by: tuple[str, ...] = (), where: Mapping[str, str] | None = None
    ) -> dict[tuple[str, ...], HistogramTotal]:
        """The same for a histogram. Series with other bounds than the first one's are left out of it."""
        totals: dict[tuple[str, ...], HistogramTotal] = {}
        for table in self._tables(name):
            for key, sample in _chosen(table, by, where or {}):
                if sample.counts is None:
                    continue
                total = totals.get(key)
                if total is None:
                    total = totals[key] = HistogramTotal(table.bounds, [0] * len(sample.counts))
                if total.bounds == table.bounds:
                    total.counts = [a + b for a, b in zip(total.counts, sample.counts, strict=True)]
                    total.sum += sample.value
                    total.count += sum(sample.counts)
        return totals

    def snapshots(self) -> list[Snapshot]:
        """Everything, one snapshot for each metric and set of label names; series of the same labels are one."""
        self.before_read()
        merged: dict[tuple[str, tuple[str, ...]], Tables] = {}
        kinds: dict[str, str] = {}
        refused = 0
        for table in self._all():
            if kinds.setdefault(table.name, table.kind) != table.kind:
                refused += len(table.samples)
                continue
            merge(merged.setdefault((table.name, table.label_names), {}), table, table.samples.items(), None)
        self._refused.set(refused)
        return [
            table.snapshot()
            for _, tables in sorted(merged.items(), key=lambda item: item[0])
            for table in tables.values()
        ]

    def _all(self) -> Iterator[Table]:
        for snapshots in (self.registry.collect(everything=True), *(extra() for extra in self.extras)):
            for snapshot in snapshots:
                yield Table.of(snapshot)
        for source in self._known():
            yield from source.tables.values()
        for retired in self._retired.values():
            for table in retired.tables.values():
                yield _named(table, retired.number)

    def _tables(self, name: str) -> Iterator[Table]:
        own = self.registry.get(name)
        if own is not None and (snapshot := own.collect(everything=True)) is not None:
            yield Table.of(snapshot)
        for source in self._known():
            if (table := source.tables.get(name)) is not None:
                yield table
        for retired in self._retired.values():
            if (table := retired.tables.get(name)) is not None:
                yield table

    def _known(self) -> Iterator[_Source]:
        yield from self._sources.values()
        for group in self._ended.values():
            yield from group.values()


def _tables(snapshots: Iterable[Snapshot]) -> Tables:
    return {snapshot.name: Table.of(snapshot) for snapshot in snapshots}


def _nothing(*_: object) -> None:
    """Nobody listens."""


def _anonymous(table: Table) -> Iterator[tuple[tuple[str, ...], Sample]]:
    """The series without the names of processes, which are made up anew by `_named`."""
    named = [name in PROCESS_LABELS for name in table.label_names]
    for labels, sample in table.samples.items():
        if any(named):
            labels = tuple("" if is_named else value for is_named, value in zip(named, labels, strict=True))
        yield labels, sample


def _named(table: Table, number: int) -> Table:
    if not PROCESS_LABELS.intersection(table.label_names):
        return table
    name = f"retired-{number}"
    named = [label in PROCESS_LABELS for label in table.label_names]
    samples = {}
    for labels, sample in table.samples.items():
        key = tuple(name if is_named else value for is_named, value in zip(named, labels, strict=True))
        samples[key] = Sample(key, sample.value, sample.counts)
    return Table(table.name, table.kind, table.help, table.label_names, table.bounds, samples)


def _chosen(
    table: Table, by: tuple[str, ...], where: Mapping[str, str]
) -> Iterator[tuple[tuple[str, ...], Sample]]:
    names = table.label_names
    if not all(name in names for name in where):
        return
    wanted = [(names.index(name), value) for name, value in where.items()]
    columns = [names.index(name) if name in names else -1 for name in by]
    for labels, sample in table.samples.items():
        if all(labels[column] == value for column, value in wanted):
            yield tuple(labels[column] if column >= 0 else "" for column in columns), sample
