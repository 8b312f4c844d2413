"""Two checkouts of Eagleray against each other: pairs of runs, the order within a pair alternating."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.scenarios.base import Metric, Scenario, Settings
from bench.systems.base import System
from bench.systems.eagleray import Eagleray

PAIRS = 7
TIE = 0.05
"""Median ratios closer to 1 than this are called a tie."""
ENOUGH_PAIRS = 6
"""Fewer pairs agree by chance too often for a verdict: six do with 2 x 0.5^6 = 3 %."""

Found = dict[str, float]


def systems(old: Path, new: Path) -> tuple[System, System]:
    """Both run in this checkout's environment with this checkout's apps; only the source differs."""
    for checkout in (old, new):
        if not (checkout / "src" / "eagleray").is_dir():
            raise ValueError(f"{checkout} is no checkout of Eagleray: it has no src/eagleray")
    return Eagleray(old.resolve(), "old", str(old)), Eagleray(new.resolve(), "new", str(new))


def measure(scenario: Scenario, old: System, new: System, settings: Settings) -> list[tuple[Found, Found]]:
    """`settings.repetitions` pairs of (old, new)."""
    pairs = []
    for number in range(settings.repetitions):
        found = {}
        for system in (old, new) if number % 2 == 0 else (new, old):
            found[system.name] = scenario.measure(system, settings)
        pairs.append((found["old"], found["new"]))
        print(f"{scenario.name}: pair {number + 1}/{settings.repetitions}", flush=True)
    return pairs


def verdict(ratios: Sequence[float], higher_is_better: bool) -> str:
    """Better or worse when the median is off 1 and every pair says the same; else a tie."""
    median = statistics.median(ratios)
    if len(ratios) < ENOUGH_PAIRS:
        return "(too few pairs for a verdict)"
    if abs(median - 1) < TIE or any((ratio > 1) != (median > 1) for ratio in ratios):
        return "tie"
    return "better" if (median > 1) == higher_is_better else "worse"


def table(
    name: str, metrics: Sequence[Metric], pairs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]
) -> str:
    """One line for each metric: medians, median of the pairs' ratios with its range, and the verdict."""
    lines = [f"{name:<34} {'old':>12} {'new':>12}  new/old"]
    for metric in metrics:
        known = [(old[metric.key], new[metric.key]) for old, new in pairs]
        old, new = (statistics.median(values) for values in zip(*known, strict=True))
        title = f"  {metric.title} {metric.unit}".rstrip()
        line = f"{title:<34} {old:>12,.3f} {new:>12,.3f}  "
        ratios = [after / before for before, after in known if before]
        if ratios:
            line += f"{statistics.median(ratios):.3f} [{min(ratios):.3f}-{max(ratios):.3f}] "
            line += verdict(ratios, metric.higher_is_better)
        lines.append(line)
    return "\n".join(lines)
