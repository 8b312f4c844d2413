"""What replicas say for policies is kept for as long as it counts, and no longer."""

from __future__ import annotations

from eagleray.controller.replica_stats import _recent


def test_old_samples_dead_replicas_and_names_that_nobody_says_are_forgotten() -> None:
    series = {
        "kept": {"a": [(1.0, 5.0), (9.0, 6.0)], "dead": [(9.0, 7.0)]},
        "of one moment": {"a": [(1.0, 5.0)]},
    }
    assert _recent(series, {"a"}, 8.0) == {"kept": {"a": [(9.0, 6.0)]}}
