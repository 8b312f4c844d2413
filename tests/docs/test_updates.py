"""docs/updates.md and docs/states.md say what the code does."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

from tests.docs.program import serving
from tests.docs.render_states import PAGE, render
from tests.waiting import wait_until

UPDATES = (Path(__file__).parents[2] / "docs/updates.md").read_text()


def ask(port: int, path: str = "/") -> int:
    """The pid of the replica that answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as reply:
        words = reply.read().decode().split()
    assert words[:2] == ["Hello", "from"]
    return int(words[2])


def test_states_page_is_up_to_date() -> None:
    assert PAGE.read_text() == render(), "run: python -m tests.docs.render_states"


def test_replica_that_leaves_is_replaced(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", UPDATES, re.DOTALL)
    with serving(tmp_path, program) as port:
        left = ask(port, "/leave")
        seen: set[int] = set()

        def replaced() -> bool:
            seen.add(ask(port))
            return len(seen - {left}) >= 2

        wait_until(replaced, "two others answer")
        wait_until(lambda: left not in {ask(port) for _ in range(10)}, "it answers no more")
