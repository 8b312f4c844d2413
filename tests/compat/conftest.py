"""Fixtures of the compatibility scripts: one instance per module, a journal and gates per test, a limit per test."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.compat.impl import NAME, ON_RAY, Instance, running
from tests.compat.world import Gate, Journal

LIMIT_S = 120 if ON_RAY else 40


def pytest_report_header() -> str:
    return f"tests/compat run on: {NAME}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ray warns of its own accord."""
    for item in items:
        if ON_RAY and "tests/compat" in str(item.path):
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """No test hangs: after the limit it fails with the stack of where it waits."""

    def give_up(*_: Any) -> None:
        raise TimeoutError(f"the test took longer than {LIMIT_S} s")

    previous = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LIMIT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with running() as started:
        yield started


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def new_gate(tmp_path: Path) -> Iterator[Callable[[], Gate]]:
    """Makes gates; those still shut when the test ends are opened, so that nothing waits for ever."""
    gates: list[Gate] = []
    numbers = itertools.count()

    def make() -> Gate:
        gates.append(Gate(tmp_path / f"gate{next(numbers)}"))
        return gates[-1]

    yield make
    for gate in gates:
        gate.open()


@pytest.fixture
def gate(new_gate: Callable[[], Gate]) -> Gate:
    return new_gate()
