"""The run: repetition 1 of every system, repetition 2 of every system, and so on; never two at once."""

from __future__ import annotations

import datetime
import time
import warnings
from collections.abc import Iterable
from typing import Any

from bench import environments
from bench.load import LoadError
from bench.results import Result
from bench.scenarios.base import Scenario, Settings
from bench.server import LeftBehind, ServerError
from bench.systems.base import System


def order(systems: list[System], repetition: int) -> list[System]:
    """Rotated each time, so that no system always follows the same one."""
    turn = repetition % max(1, len(systems))
    return systems[turn:] + systems[:turn]


def estimate_s(plan: Iterable[tuple[Scenario, list[System]]], settings: Settings) -> float:
    """About how long the plan takes."""
    return sum(
        scenario.seconds(system, settings) * settings.repetitions
        for scenario, systems in plan
        for system in systems
    )


def run(scenario: Scenario, systems: list[System], settings: Settings, machine: dict[str, Any]) -> Result:
    """All repetitions of one scenario. A system that fails is noted, loses that repetition, and the run goes on."""
    result = Result(
        scenario=scenario.name,
        when=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        machine=machine,
        versions={system.environment: environments.versions(system.environment) for system in systems},
        settings={
            "duration_s": settings.duration_s,
            "warm_up_s": settings.warm_up_s,
            "idle_s": settings.idle_s,
            "repetitions": settings.repetitions,
        },
        repetitions={system.name: [] for system in systems},
    )
    for repetition in range(settings.repetitions):
        for system in order(systems, repetition):
            started = time.monotonic()
            try:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always", LeftBehind)
                    found = scenario.measure(system, settings)
                result.notes += [f"repetition {repetition + 1}: {warning.message}" for warning in caught]
            except (LoadError, ServerError) as error:
                result.failures += 1
                first_line = str(error).partition("\n")[0]
                result.notes.append(f"{system.name}, repetition {repetition + 1}: {first_line}")
                print(f"{scenario.name} {system.name} FAILED: {error}", flush=True)
                continue
            result.repetitions[system.name].append(found)
            figures = "  ".join(f"{key} {value:,.3f}" for key, value in found.items())
            took = time.monotonic() - started
            print(
                f"{scenario.name} {repetition + 1}/{settings.repetitions} {system.name}: {figures}  ({took:.0f} s)",
                flush=True,
            )
    return result
