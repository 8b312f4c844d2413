"""All series that the code can count, as its own classes make them, and those that docs/observability.md tells of."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Iterable
from pathlib import Path

from eagleray.base.clock import SystemClock
from eagleray.base.loop_lag import LoopLag
from eagleray.base.metrics import COUNTER, FOLDED, Registry
from eagleray.base.spans import open_tracer
from eagleray.controller import instruments, process_stats
from eagleray.controller.autoscaling import Autoscaling
from eagleray.controller.health import PassTimes
from eagleray.controller.publisher import Publisher
from eagleray.controller.telemetry import Telemetry
from eagleray.controller.timings import Timings
from eagleray.controller.world_series import WorldSeries
from eagleray.proxy.metrics import ProxyMetrics
from eagleray.reconcile.world import World
from eagleray.replica.metrics import ReplicaMetrics
from eagleray.replica.slots import Slots
from eagleray.replica.stats import StatsHook
from eagleray.routing.metrics import RouterMetrics
from eagleray.serve.batch_metrics import BatchMetrics
from eagleray.serve.model_metrics import ModelMetrics

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "observability.md").read_text()

Series = dict[str, tuple[str, frozenset[str]]]
"""Name in a registry -> kind, and the labels that any of its series has."""

REPLICA = ("D", "r", "app")
_REPLICA_LABELS = ("deployment", "replica", "application")


_MAKERS = ("counter", "gauge", "histogram", "_gauge", "Metric", "Snapshot")


def counted(directory: Path) -> Series:
    """Of every process. `directory` is for files of spans."""
    return asyncio.run(_counted(directory))


async def _counted(directory: Path) -> Series:
    registry = Registry()
    for protocol in ("http", "grpc"):
        ProxyMetrics(registry, protocol, int)
    RouterMetrics(registry, ("PROXY", "p"), SystemClock().now)
    ReplicaMetrics(registry, REPLICA, Slots(1))
    StatsHook(registry, REPLICA)
    BatchMetrics(registry, (*REPLICA, "function"), int)
    ModelMetrics(registry, REPLICA, int)
    tracer = open_tracer({"enabled": True}, "replica", "r", str(directory), registry)
    assert tracer is not None
    tracer.close()
    of_replica = Registry()
    LoopLag(of_replica, "replica", "main", "r", (("deployment", "D"), ("application", "app")))
    world, clock = World("seed"), SystemClock()
    telemetry = Telemetry(registry)
    Timings(registry, world, clock)
    publisher = Publisher(lambda _: None, 1, is_restart=False)
    instruments._watch_loop(registry, PassTimes())
    instruments._watch_tables(registry, publisher)
    registry.counter(FOLDED, "As `Registry.collect` and `Telemetry` make it.", "metric")
    usage = process_stats._snapshots(("replica", "app", "D", "r"), (0.0, 0, 0, 0))
    states = WorldSeries(world, Autoscaling(world, lambda _: None, clock)).read()
    publisher.close()
    found: Series = {}
    for one in (*telemetry.registry, *of_replica, *usage, *states):
        _, labels = found.get(one.name, ("", frozenset()))
        found[one.name] = one.kind, labels | set(one.label_names)
    return found


def written() -> set[str]:
    """Names of series that stand in the source, whole, as the first argument of what makes one."""
    found = set()
    for path in (ROOT / "src" / "eagleray").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
                continue
            made_by = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if made_by in _MAKERS:
                name = node.args[0].value
                if isinstance(name, str) and re.fullmatch(r"(serve|eagleray)_[a-z0-9_]+", name):
                    found.add(name)
    return found


def documented() -> Series:
    """The tables of the page, with what their sections say of all their lines."""
    found: Series = {}
    section, before = "", frozenset[str]()
    for line in PAGE.splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ")
        cells = [cell.strip() for cell in line[1:-1].split("|")]
        if not line.startswith("| `") or len(cells) < 3 or cells[1] not in ("counter", "gauge", "histogram"):
            continue
        labels = frozenset(re.findall(r"[a-z_]+", cells[2].replace("replicas:", "")))
        if cells[2] == "the same":
            labels = before
        before = labels
        if section == "Of replicas":
            labels |= set(_REPLICA_LABELS)
        for name in re.findall(r"`([a-z0-9_]+)`", cells[0]):
            found[name] = cells[1], labels
            if section == "Of proxies":
                found[name.replace("_http_", "_grpc_")] = cells[1], labels
    return found


def exported(series: Iterable[tuple[str, tuple[str, frozenset[str]]]]) -> dict[str, frozenset[str]]:
    """Names as Prometheus has them -> labels."""
    found = {}
    for name, (kind, labels) in series:
        shown = name if name.startswith("eagleray_") else f"ray_{name}"
        if kind == COUNTER:
            found[shown.removesuffix("_total") + "_total"] = labels
        elif kind == "gauge":
            found[shown] = labels
        else:
            found |= {f"{shown}_bucket": labels | {"le"}, f"{shown}_sum": labels, f"{shown}_count": labels}
    return found
