"""`python -m eagleray.testing.simulation --seed N --trace`: runs scenarios and says what was violated."""

from __future__ import annotations

import argparse
import logging
import time

from eagleray.testing.simulation.scenario import simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m eagleray.testing.simulation")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds, one after the other")
    parser.add_argument("--trace", action="store_true", help="print all that happens")
    given = parser.parse_args()
    logging.getLogger("eagleray").setLevel(logging.CRITICAL)  # failed starts are part of the scenarios
    begun, failed, requests, lost = time.monotonic(), 0, 0, 0
    for seed in range(given.seed, given.seed + given.count):
        outcome = simulate(seed)
        if given.trace:
            print("\n".join(outcome.lines))
        requests, lost = requests + outcome.requests, lost + outcome.failed
        for violation in outcome.violations:
            print(f"seed {seed}: {violation}")
        failed += bool(outcome.violations)
    spent = time.monotonic() - begun
    print(f"{requests} requests, of which {lost} failed for a reason")
    print(f"{given.count} seeds in {spent:.1f} s, {failed} with violations")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
