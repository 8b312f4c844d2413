"""examples/seeds/run.py, which `make seeds` calls, as a person calls it."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.examples.seed_programs import SEEDS, declared


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "run.py", *arguments],
        cwd=SEEDS,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_program_is_run_asked_and_told_of() -> None:
    done = run("d002/leaky")
    assert done.returncode == 0, done.stderr
    heading, row, total = done.stdout.splitlines()
    assert heading.split() == ["program", "document", "requests", "ok", "p50", "ms"]
    assert row.split()[:4] == ["leaky", "002", "300", "300"]
    assert float(row.split()[4]) > 0
    assert total == "programs: 1, wrong answers: 0"


def test_a_program_that_is_not_there_is_told_with_those_that_are() -> None:
    done = run("d002/leeky")
    assert done.returncode == 2
    assert "'d002/leeky'" in done.stderr and "'d002/leaky'" in done.stderr


def test_every_program_has_what_a_reader_needs() -> None:
    for program in declared.programs():
        folder = SEEDS / program.document / program.name
        assert (folder / "README.md").is_file(), f"{folder} has no README.md"
        assert program.asks, f"{folder} sends nothing"
