"""The programs in the documents run as they stand."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

import pytest
from tests.docs.program import serving

ROOT = Path(__file__).parents[2]
PROGRAMS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def ask(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
        return bytes(reply.read())


@pytest.mark.parametrize(
    ("program", "path", "answer"),
    [
        (PROGRAMS[0], "/?name=you", b"Hello you!"),
        (PROGRAMS[1], "/?text=four", json.dumps({"length": 4}).encode()),
    ],
    ids=["first screen", "composition"],
)
def test_readme_programs_answer(tmp_path: Path, program: str, path: str, answer: bytes) -> None:
    with serving(tmp_path, program) as port:
        assert ask(port, path).replace(b": ", b":") == answer.replace(b": ", b":")


def test_local_links_of_the_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name} links to {target}"
