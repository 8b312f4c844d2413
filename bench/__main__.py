"""Command line: `python -m bench` measures everything, `--pair OLD NEW` two checkouts of Eagleray."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from bench import environments, machine, pair, processes, results, runner, table
from bench.load import LoadError, ensure_tool
from bench.scenarios import SCENARIOS
from bench.scenarios.base import Scenario, Settings
from bench.systems import SYSTEMS
from bench.systems.base import System

QUICK = Settings(duration_s=1.0, warm_up_s=0.0, idle_s=1.0, repetitions=1)


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise argparse.ArgumentTypeError(f"{text!r}: expected some of {', '.join(known)}")
        return names

    return parse


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measures Eagleray beside its peers."
    )
    parser.add_argument("--scenarios", type=_names(SCENARIOS), help=f"some of {','.join(SCENARIOS)}")
    parser.add_argument("--systems", type=_names(SYSTEMS), help=f"some of {','.join(SYSTEMS)}")
    parser.add_argument(
        "--duration", type=float, metavar="S", help=f"a window (default {defaults.duration_s:g})"
    )
    parser.add_argument(
        "--warm-up", type=float, metavar="S", help=f"before it (default {defaults.warm_up_s:g})"
    )
    parser.add_argument("--idle", type=float, metavar="S", help=f"idle watch (default {defaults.idle_s:g})")
    parser.add_argument(
        "--reps", type=int, metavar="N", help=f"(default {defaults.repetitions}; {pair.PAIRS} pairs)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="does everything run? 1 s windows, once, nothing written"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where results go, instead of bench/results"
    )
    parser.add_argument(
        "--pair", nargs=2, type=Path, metavar=("OLD", "NEW"), help="compare two checkouts of Eagleray"
    )
    parser.add_argument(
        "--table", action="store_true", help="only write bench/README.md from bench/results again"
    )
    return parser.parse_args(arguments)


def settings_of(options: argparse.Namespace) -> Settings:
    base = QUICK if options.quick else Settings(repetitions=pair.PAIRS) if options.pair else Settings()

    def chosen(given: float | None, default: float) -> float:
        return default if given is None else given

    return Settings(
        duration_s=chosen(options.duration, base.duration_s),
        warm_up_s=chosen(options.warm_up, base.warm_up_s),
        idle_s=chosen(options.idle, base.idle_s),
        repetitions=int(chosen(options.reps, base.repetitions)),
    )


def compare(options: argparse.Namespace, settings: Settings) -> int:
    """`--pair`: prints, writes nothing."""
    old, new = pair.systems(*options.pair)
    scenarios = [SCENARIOS[name] for name in options.scenarios or SCENARIOS]
    environments.ensure(old.environment)
    seconds = runner.estimate_s([(scenario, [old, new]) for scenario in scenarios], settings)
    print(
        f"{settings.repetitions} pairs of {len(scenarios)} scenarios: about {seconds / 60:.0f} minutes",
        flush=True,
    )
    for scenario in scenarios:
        print(
            pair.table(scenario.name, scenario.metrics, pair.measure(scenario, old, new, settings)),
            flush=True,
        )
    return 0


def measure(options: argparse.Namespace, settings: Settings) -> int:
    """All scenarios; full runs are written to bench/results and bench/README.md, others only where `--output` says."""
    plan: list[tuple[Scenario, list[System]]] = []
    for name in options.scenarios or SCENARIOS:
        scenario = SCENARIOS[name]
        systems = [SYSTEMS[each] for each in scenario.systems if each in (options.systems or SYSTEMS)]
        if systems:
            plan.append((scenario, systems))
    for environment in sorted({system.environment for _, systems in plan for system in systems}):
        environments.ensure(environment)
    seconds = runner.estimate_s(plan, settings)
    print(
        f"plan: {', '.join(scenario.name for scenario, _ in plan)}: about {seconds / 60:.0f} minutes",
        flush=True,
    )
    description = machine.describe(environments.ROOT)
    if description["busy_share_before"] > machine.BUSY_SHARE:
        print(
            f"warning: {description['busy_share_before']:.0%} of this machine's CPU is busy with something else"
        )
    full = not options.quick and not options.systems
    folder = options.output or (results.FOLDER if full else None)
    failed = False
    found = {}
    for scenario, systems in plan:
        result = runner.run(scenario, systems, settings, description)
        found[scenario.name] = result
        failed = failed or result.failures > 0
        if folder:
            print(f"written: {results.save(result, folder)}", flush=True)
        print("\n" + table.scenario_table(result) + "\n", flush=True)
    print(table.goals_table(found))
    if folder == results.FOLDER:
        table.write_readme(results.load(folder))
    return 1 if failed else 0


def main() -> int:
    options = parse_arguments(sys.argv[1:])
    if options.table:
        table.write_readme(results.load(results.FOLDER))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the measured system is stopped too
    try:
        processes.adopt_orphans()
        ensure_tool("wrk", "wrk")
        settings = settings_of(options)
        return compare(options, settings) if options.pair else measure(options, settings)
    except (LoadError, RuntimeError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
