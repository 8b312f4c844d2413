"""docs/operations.md: its commands run, its pages exist, and its messages are those that the code says."""

from __future__ import annotations

import os
import re
import signal
import tempfile
from pathlib import Path

from tests.integration.cli.detached import shell
from tests.processes import wait_gone
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations.md").read_text()
SESSION, UPGRADE = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)

HELLO = """
from eagleray import serve

@serve.deployment
def hello(request):
    return "hello"

app = hello.bind()
"""

CONFIG = """
applications:
- {name: hello, import_path: "hello:app"}
"""


def commands(session: str) -> list[list[str]]:
    return [line.split() for line in re.findall(r"^\$ eagleray (.*)$", session, re.MULTILINE)]


def test_the_commands_and_an_upgrade() -> None:
    start, *rest = commands(SESSION)
    # Sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="er-") as directory, shell(Path(directory)) as user:
        user.environ["EAGLERAY_DRAIN_DELAY_S"] = "0"
        user.write("hello.py", HELLO)
        user.write("config.yaml", CONFIG)
        assert start == ["start"]
        user.start()
        user(*rest[0])
        assert "hello:app" in user("config")
        assert re.search(r"^\$ kill -TERM", UPGRADE, re.MULTILINE) and commands(UPGRADE) == [["start"]]
        before = user.processes()
        os.kill(user.node(), signal.SIGTERM)
        assert not wait_gone(before, 60.0)
        user.start()
        wait_until(lambda: user.status("hello")["status"] == "RUNNING", "it is back without a deploy")
        for command in rest:
            user(*command)


def test_the_pages_exist() -> None:
    for page in re.findall(r"\]\(([^)#]+\.md)\)", PAGE):
        assert (ROOT / "docs" / page).is_file(), page


def test_the_messages_of_the_runbook_are_ours() -> None:
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    text = re.sub(r'"\s*\n\s*f?"', "", source)
    for row in re.findall(r"^\| (`.*?) \|", PAGE.partition("## Runbook")[2], re.MULTILINE):
        for quoted in re.findall(r"`([^`]+)`", row):
            known = [re.escape(part) for part in quoted.split("...")]
            if quoted != "No space left":  # the kernel's word
                assert re.search(r".{0,40}".join(known), text), quoted
