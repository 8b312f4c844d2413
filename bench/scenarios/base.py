"""What a scenario is: systems to compare, and how one repetition of one system is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bench.systems.base import System

OTHERS = ("mosec", "ray", "ray-tuned", "eagleray")


@dataclass(frozen=True)
class Settings:
    """Lengths in seconds of one window, of the warm-up before it, and of the watch over an idle system."""

    duration_s: float = 3.0
    warm_up_s: float = 1.0
    idle_s: float = 10.0
    repetitions: int = 3

    @property
    def window_s(self) -> float:
        return self.duration_s + self.warm_up_s


@dataclass(frozen=True)
class Metric:
    """One number of a repetition: its key in the results, its heading, its unit, and which direction is better."""

    key: str
    title: str
    unit: str
    higher_is_better: bool


class Scenario(Protocol):
    """One file of this folder each."""

    @property
    def name(self) -> str: ...
    @property
    def systems(self) -> tuple[str, ...]: ...
    @property
    def metrics(self) -> tuple[Metric, ...]: ...

    def seconds(self, system: System, settings: Settings) -> float:
        """About how long one repetition takes, for the plan."""

    def measure(self, system: System, settings: Settings) -> dict[str, float]:
        """One repetition: starts the system, measures, stops it. Keys are those of `metrics`."""
