"""Repetitions in, medians and ratios out, kept as one JSON file for each scenario."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"


@dataclass
class Result:
    """All that one scenario's run has found. `repetitions`: system -> one dict of metrics for each repetition."""

    scenario: str
    when: str
    machine: dict[str, Any]
    versions: dict[str, dict[str, str]]
    settings: dict[str, float]
    repetitions: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failures: int = 0

    def median(self, system: str, metric: str) -> float | None:
        """The median over the repetitions that have the metric; None without one."""
        values = [found[metric] for found in self.repetitions.get(system, []) if metric in found]
        return statistics.median(values) if values else None

    def spread(self, system: str, metric: str) -> tuple[float, float] | None:
        """Smallest and largest of the repetitions."""
        values = [found[metric] for found in self.repetitions.get(system, []) if metric in found]
        return (min(values), max(values)) if values else None

    def ratio(self, metric: str, system: str, other: str) -> float | None:
        """`system`'s median over `other`'s; None when one of them is missing or zero."""
        ours, theirs = self.median(system, metric), self.median(other, metric)
        return None if ours is None or not theirs else ours / theirs

    def to_json(self) -> str:
        metrics = {metric for found in self.repetitions.values() for one in found for metric in one}
        medians = {
            system: {metric: self.median(system, metric) for metric in sorted(metrics)}
            for system in self.repetitions
        }
        return json.dumps({**self.__dict__, "medians": medians}, indent=1) + "\n"

    @staticmethod
    def from_json(text: str) -> Result:
        found = json.loads(text)
        del found["medians"]  # derived
        return Result(**found)


def save(result: Result, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.scenario}.json"
    path.write_text(result.to_json())
    return path


def load(folder: Path) -> dict[str, Result]:
    """Every scenario's result that the folder has, by name."""
    return {path.stem: Result.from_json(path.read_text()) for path in sorted(folder.glob("*.json"))}
