"""What the two halves of the seeds have in common. Two files, so that two workers share the work."""

from __future__ import annotations

from eagleray.testing.simulation.scenario import simulate

CHUNK = 25


def check(first: int) -> None:
    """Runs `CHUNK` seeds; says which of them show what, and how to see it again."""
    failures = []
    requests = 0
    for seed in range(first, first + CHUNK):
        outcome = simulate(seed)
        requests += outcome.requests
        failures += [f"seed {seed}: {violation}" for violation in outcome.violations[:3]]
        if outcome.violations:
            failures.append(f"    python -m eagleray.testing.simulation --seed {seed} --trace")
    assert not failures, "\n".join(["", *failures])
    assert requests > CHUNK, "the routers had something to do"
