"""The curl commands that examples show say what kind of body they send: programs with a typed body refuse others."""

from __future__ import annotations

import itertools
import re
import shlex

import pytest
from tests.fault.instance import ROOT

SHOWN = [
    (str(file.relative_to(ROOT)), line)
    for file in sorted((ROOT / "examples").rglob("*"))
    if file.name in ("README.md", "app.py")
    for line in re.findall(r"^(?:\$ )?(curl .*)$", file.read_text(), re.MULTILINE)
]


@pytest.mark.parametrize(("file", "line"), SHOWN)
def test_a_body_of_json_is_sent_as_json(file: str, line: str) -> None:
    words = shlex.split(line.partition("  ")[0])
    for option, value in itertools.pairwise(words):
        if option in ("-d", "--data") and value[:1] in ("{", "["):
            assert "content-type: application/json" in words, f"{file}: {line} is sent as a form, and refused"


def test_commands_are_found() -> None:
    assert len(SHOWN) > 30
