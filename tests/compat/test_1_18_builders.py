"""Surface 1.18: application builders, run by the command line with `key=value` arguments."""

from __future__ import annotations

import pytest
from tests.compat.impl import command_line, differs


@pytest.mark.parametrize(
    ("target", "arguments", "expected"),
    [
        ("tests.compat.builders:app", [], "built"),
        ("tests.compat.builders:typed", ["text=ab", "times=3"], "ababab"),
        ("tests.compat.builders:untyped", ["a=1", "b=x=y"], "a='1',b='x=y'"),
        ("tests.compat.builders:untyped", [], ""),
    ],
)
def test_the_command_line_runs_applications_and_builders(
    target: str, arguments: list[str], expected: str
) -> None:
    with command_line(target, *arguments) as app:
        assert app.get().text == expected


@differs("postponed-annotations")
def test_builders_and_views_may_have_postponed_annotations() -> None:
    with command_line("tests.compat.postponed:build", "greeting=hello") as app:
        assert app.http("POST", "/", json={"name": "you"}).json() == "hello you"
