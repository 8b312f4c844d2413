"""What policies may know of replicas beside their load: the users' own statistics, and how busy the processes are.

Asked for only where a deployment has a policy of its user's.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eagleray.base.clock import wall_time_s
from eagleray.base.errors import EaglerayError
from eagleray.controller.observer import Observer
from eagleray.reconcile.instance import Instance
from eagleray.reconcile.scaling import ScalingRules
from eagleray.reconcile.world import World
from eagleray.wire.control import Empty
from eagleray.wire.scaling import LoadStats

logger = logging.getLogger("eagleray.controller")

STATS_TIMEOUT_S = 3.0
"""The policies of the whole application wait for it."""
_TICKS = os.sysconf("SC_CLK_TCK")

Series = dict[str, dict[str, list[tuple[float, float]]]]
"""Name -> replica -> (wall time, value), oldest first."""


class ReplicaStats:
    """Belongs to the controller's loop."""

    def __init__(self, world: World, observer: Observer) -> None:
        self._world = world
        self._observer = observer
        self._series: dict[str, Series] = {}
        self._cpu: dict[str, tuple[float, float]] = {}
        self._busy: dict[str, float] = {}

    async def collect(self, rules: Mapping[str, ScalingRules]) -> None:
        """Asks all replicas of these deployments; those that do not answer say nothing this time."""
        for key in [key for key in self._series if key not in rules]:
            del self._series[key]
        replicas = [(key, one) for key in rules for one in self._world.instances_of(key) if one.is_listed]
        self._measure([one for _, one in replicas])
        told = await asyncio.gather(*(self._ask(one.row.ref) for _, one in replicas))
        now = wall_time_s()
        for (key, one), stats in zip(replicas, told, strict=True):
            series = self._series.setdefault(key, {})
            for name, value in stats.items():
                series.setdefault(name, {}).setdefault(one.row.unique_id, []).append((now, value))
        for key, rule in rules.items():
            living = {one.row.unique_id for of, one in replicas if of == key}
            self._series[key] = _recent(self._series.get(key, {}), living, now - rule.look_back_s)

    def of(self, key: str) -> dict[str, Any]:
        """The fields of a policy's context that come from replicas."""
        series = self._series.get(key, {})
        busy = [self._busy[one.row.ref] for one in self._world.instances_of(key) if one.row.ref in self._busy]
        return {
            "raw_metrics": series,
            "aggregated_metrics": {
                name: {
                    replica: sum(value for _, value in samples) / len(samples)
                    for replica, samples in values.items()
                }
                for name, values in series.items()
            },
            "cpu_utilization": sum(busy) / len(busy) if busy else 0.0,
        }

    async def _ask(self, ref: str) -> dict[str, float]:
        client = self._observer.client(ref)
        if client is None:
            return {}
        try:
            stats = await client.request("autoscaling_stats", Empty(), LoadStats, timeout_s=STATS_TIMEOUT_S)
        except EaglerayError as error:
            logger.warning("%s has no autoscaling statistics: %s", ref, error)
            return {}
        if stats.error:
            logger.error("`record_autoscaling_stats` of %s has failed:\n%s", ref, stats.error)
        return stats.values

    def _measure(self, replicas: list[Instance]) -> None:
        now = asyncio.get_running_loop().time()
        before, self._cpu = self._cpu, {}
        for one in replicas:
            try:
                stat = Path(f"/proc/{one.row.pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            used = (int(stat[11]) + int(stat[12])) / _TICKS
            ref = one.row.ref
            self._cpu[ref] = (now, used)
            if ref in before and now > before[ref][0]:
                at, former = before[ref]
                self._busy[ref] = 100.0 * (used - former) / (now - at)
        self._busy = {ref: value for ref, value in self._busy.items() if ref in self._cpu}


def _recent(series: Series, living: set[str], since: float) -> Series:
    """What is not too old and of a replica that lives; names that nobody says any more are forgotten."""
    recent: Series = {}
    for name, values in series.items():
        for replica, samples in values.items():
            kept = [sample for sample in samples if sample[0] >= since]
            if kept and replica in living:
                recent.setdefault(name, {})[replica] = kept
    return recent
