"""docs/as-ray.md: its program runs as a script, by the command line and from its config file, unchanged."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.integration.cli.command import command, get
from tests.integration.conftest import home as home
from tests.ports import free_port

PAGE = (Path(__file__).parents[2] / "docs/as-ray.md").read_text()
PROGRAM, HOOK, LEGACY = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(CONFIG,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_script(home: Path) -> None:
    (home / "hello.py").write_text(PROGRAM.replace("ray.init()", f"ray.init()\n    {port_of()}"))
    for program in (["hello.py"], ["-m", "hello"]):
        done = subprocess.run(
            [sys.executable, "-m", "eagleray.as_ray", *program],
            cwd=home,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stdout) == (0, "hello script\n"), done.stderr


def test_the_legacy_names(home: Path) -> None:
    (home / "legacy.py").write_text(LEGACY.replace("HTTPOptions(", f"HTTPOptions(port={free_port()}, "))
    done = subprocess.run(
        [sys.executable, "-m", "eagleray.as_ray", "legacy.py"],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "True\nFalse\n"), done.stderr
    for modern in (
        "max_ongoing_requests",
        "EAGLERAY_SHARED_MEMORY_MB",
        "get_app_handle",
        "response.result()",
    ):
        assert modern in done.stderr


def port_of() -> str:
    """The example takes the default port, which somebody may have."""
    return f"serve.start(http_options={{'port': {free_port()}}})"


def test_the_command_line_and_the_config(home: Path) -> None:
    (home / "hello.py").write_text(PROGRAM)
    (home / "c.yaml").write_text(CONFIG)
    build = [sys.executable, "-m", "eagleray.cli", "build", "--as-ray", "hello:app", "-o", "built.yaml"]
    subprocess.run(build, cwd=home, check=True, timeout=60)
    for arguments in (["--as-ray", "hello:app"], ["c.yaml"], ["built.yaml"]):
        with command(home, *arguments, "--port", str(free_port())) as running:
            answer = json.loads(get(f"{running.wait_served()}?name=x"))
            assert answer["text"] == "hello x" and answer["replica"].startswith("replica-")


def test_the_hook_in_a_process() -> None:
    code = f"{HOOK}\nprint(serve.__name__)\ntry:\n    import ray\nexcept ImportError:\n    print('gone')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["eagleray.serve", "gone"], done.stderr
