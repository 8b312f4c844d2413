"""What every process of the instance takes: memory, CPU time, descriptors, read from /proc when somebody asks.

From outside, so that a busy process answers too and an idle one is not woken. Resident memory counts pages that
processes share in each of them: the sum over replicas is more than they take together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from eagleray.base.clock import Clock
from eagleray.base.metrics import COUNTER, GAUGE, Sample, Snapshot
from eagleray.controller.telemetry import Telemetry
from eagleray.reconcile.world import World

FRESH_S = 5.0
"""How old a reading may be: a hundred processes take some milliseconds."""

SERIES = "eagleray_process_"
"""What the names of all series begin with."""

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_LABELS = ("component", "application", "deployment", "replica")

Usage = tuple[float, int, int, int]
"""CPU seconds, resident bytes, descriptors, threads."""


class ProcessStats:
    """Tells `telemetry`, as if the processes themselves had: what they have taken counts when they have ended."""

    def __init__(
        self,
        world: World,
        telemetry: Telemetry,
        clock: Clock,
        usage_of: Callable[[int], Usage | None] | None = None,
    ) -> None:
        self._world = world
        self._telemetry = telemetry
        self._clock = clock
        self._usage_of = usage_of or usage_of_process
        self._read_at = float("-inf")

    def refresh(self) -> None:
        """Reads what is older than `FRESH_S`."""
        now = self._clock.now()
        if now - self._read_at < FRESH_S:
            return
        self._read_at = now
        for source, pid, labels in self._processes():
            usage = self._usage_of(pid)
            if usage is not None:
                self._telemetry.tell(source, _snapshots(labels, usage))

    def _processes(self) -> Iterator[tuple[str, int, tuple[str, ...]]]:
        for component, pid in (("controller", os.getpid()), ("node", os.getppid())):
            self._telemetry.begin(component, (component, ""))
            yield component, pid, (component, "", "", "")
        for instance in self._world.instances.values():
            row = instance.row
            if row.pid:
                app, _, deployment = row.owner.partition("#") if row.kind == "replica" else ("", "", "")
                yield row.ref, row.pid, (row.kind, app, deployment, row.unique_id)


def usage_of_process(pid: int) -> Usage | None:
    """None: it has just ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            words = file.read().rpartition(")")[2].split()
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None
    cpu_s = (int(words[11]) + int(words[12])) / _TICKS
    return cpu_s, int(words[21]) * _PAGE_BYTES, descriptors, int(words[17])


def _snapshots(labels: tuple[str, ...], usage: Usage) -> list[Snapshot]:
    cpu_s, resident_bytes, descriptors, threads = usage

    def one(name: str, kind: str, help: str, value: float) -> Snapshot:
        return Snapshot(SERIES + name, kind, help, _LABELS, (), [Sample(labels, value)])

    return [
        one("cpu_seconds", COUNTER, "CPU time that a process has taken.", cpu_s),
        one("resident_memory_bytes", GAUGE, "Resident memory, shared pages included.", resident_bytes),
        one("open_fds", GAUGE, "Open file descriptors.", descriptors),
        one("threads", GAUGE, "Threads.", threads),
    ]
