"""`eagleray run --reload`: an edit restarts what it concerns, a broken one nothing, and no request fails meanwhile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.integration.cli.command import Command, Load, command, get

PROGRAM = """
import os
from eagleray import serve
from part import suffix

@serve.deployment(graceful_shutdown_wait_loop_s=0.1)
class Child:
    async def __call__(self, text):
        return ["child 1", os.getpid()]

@serve.deployment(graceful_shutdown_wait_loop_s=0.1)
class Front:
    def __init__(self, child):
        self.child = child
    async def __call__(self, request):
        return {"front": ["front 1", os.getpid()], "child": await self.child.remote("x"), "suffix": suffix()}

app = Front.bind(Child.bind())
"""

PART = "def suffix(): return 1\n"


@pytest.fixture(params=["watchfiles", "polling"])
def environ(request: pytest.FixtureRequest, home: Path) -> dict[str, str]:
    """With `watchfiles`, and as if it were not installed."""
    (home / "app").mkdir()
    if request.param == "watchfiles":
        return {}
    (home / "without").mkdir()
    (home / "without" / "watchfiles.py").write_text("raise ImportError('not installed')")
    return {"PYTHONPATH": str(home / "without")}


class Edited:
    """A running application whose file is being edited."""

    def __init__(self, running: Command, url: str, file: Path) -> None:
        self.running = running
        self.url = url
        self.file = file

    def state(self) -> dict[str, list[object]]:
        found: dict[str, list[object]] = json.loads(get(self.url))
        return found

    def edit(self, old: str, new: str, outcome: str = "Reloaded.") -> dict[str, list[object]]:
        """Saves, waits until the command says `outcome` once more, and asks again."""
        text = self.file.read_text()
        assert old in text
        said = self.running.err.text.count(outcome)
        self.file.write_text(text.replace(old, new))
        self.running.wait(lambda: self.running.err.text.count(outcome) > said, f"{new}: {outcome}")
        return self.state()


def test_a_reload_restarts_what_has_changed(home: Path, environ: dict[str, str]) -> None:
    app = home / "app"
    (app / "edited.py").write_text(PROGRAM)
    (app / "part.py").write_text(PART)
    arguments = ["edited:app", "--port", "0", "--reload", "--app-dir", str(app)]
    with command(home, *arguments, **environ) as running:
        edited = Edited(running, running.wait_served(), app / "edited.py")
        first = edited.state()
        with Load(edited.url) as load:
            second = edited.edit("child 1", "child 2")
            assert second["front"] == first["front"]
            assert second["child"][0] == "child 2" and second["child"][1] != first["child"][1]
            assert "Reloading: edited.py" in running.err.text

            third = edited.edit("front 1", "front 2")
            assert third["child"] == second["child"]
            assert third["front"][0] == "front 2" and third["front"][1] != first["front"][1]

            assert edited.edit("import os", "# a remark\nimport os") == third

            syntax = edited.edit("def __init__(self, child):", "def __init__(self, child:", "goes on serving")
            assert syntax == third and "SyntaxError" in running.err.text
            raising = edited.edit("(self, child:", "(self, child):\n        1 / 0", "goes on serving")
            assert raising == third and "ZeroDivisionError" in running.err.text

            mended = edited.edit("\n        1 / 0", "")
            assert mended == third

            again = edited.edit("front 2", "front 3")
            assert again["front"][0] == "front 3" and again["child"] == third["child"]

            edited.file = app / "part.py"
            last = edited.edit("return 1", "return 2")
            assert last["suffix"] == 2
        assert load.answers and load.failures == []
        running.signal()
        assert running.end() == 0
        assert "Traceback" not in running.err.text.rpartition("goes on serving")[2]
