"""docs/migrate-from-ray-serve.md: its service runs unchanged and changed, its commands and tables say what there is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.integration.cli.command import command, get
from tests.integration.cli.detached import shell
from tests.integration.conftest import home as home
from tests.ports import free_port

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "migrate-from-ray-serve.md").read_text()
SERVICE, COMPARE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(CONFIG,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
FIRST, DEPLOY, KUBERAY, COMPARING = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
QUERY = "/greet?name=Ada"


TEST = """
from ray import serve
from service import app


def test_it_greets():
    handle = serve.run(app, _local_testing_mode=True)
    assert handle.greet.remote("Ada").result() == {"text": "Hello, Ada!"}
"""


def lines_of(session: str) -> list[str]:
    return re.findall(r"^\$ (.*)$", session, re.MULTILINE)


def said_in(session: str) -> str:
    (said,) = re.findall(r"^(?!\$)(.+)$", session, re.MULTILINE)
    return said


def bash(line: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], cwd=directory, capture_output=True, text=True, timeout=120)


def test_the_service_unchanged_and_changed(home: Path) -> None:
    (home / "service.py").write_text(SERVICE)
    find, testing, as_ray, _, change, changed = lines_of(FIRST)
    assert (bash(find, home).returncode, bash(find, home).stdout) == (1, "")
    (home / "test_service.py").write_text(TEST)
    tested = bash(testing.replace("python", f"{sys.executable}", 1), home)
    assert "1 passed" in tested.stdout, tested.stdout + tested.stderr
    for line in (as_ray, changed):
        assert line.startswith("eagleray run ")
        with command(home, *line.split()[2:], "--port", str(free_port())) as running:
            assert get(f"{running.wait_served().rstrip('/')}{QUERY}") == said_in(FIRST)
        assert bash(change, home).returncode == 0
    assert re.findall(
        r"^(?:from|import) (?!fastapi)\S+", (home / "service.py").read_text(), re.MULTILINE
    ) == [
        "from eagleray",
        "from eagleray.serve.handle",
    ]


def test_what_needs_ray_is_found(tmp_path: Path) -> None:
    (tmp_path / "actors.py").write_text("import ray\nkept = ray.put(1)\n\n@ray.remote\ndef f(): ...\n")
    find, *_, change, _ = lines_of(FIRST)
    assert [line.split(":")[1] for line in bash(find, tmp_path).stdout.splitlines()] == ["2", "4"]
    bash(change, tmp_path)
    assert (tmp_path / "actors.py").read_text().startswith("import eagleray as ray\nkept = ray.put(1)\n")
    failed = bash(f"{sys.executable} actors.py", tmp_path)
    assert "'ray.put' needs Ray itself" in failed.stderr and "Ray engine" in failed.stderr


def test_the_config_file_and_kuberay(home: Path) -> None:
    with shell(home) as user:
        user.write("service.py", SERVICE)
        user.write("config.yaml", CONFIG)
        user.write("compare.py", COMPARE)
        start, deploy, curl = lines_of(DEPLOY)
        assert (start, curl) == ("eagleray start", f"curl 'localhost:8000{QUERY}'")
        user.start()
        user(*deploy.split()[1:])
        url = f"http://127.0.0.1:{user.port}"
        assert get(url + QUERY) == said_in(DEPLOY)

        user.write("serveConfigV2", CONFIG.replace("Ciao", "Salut"))
        (home / "bin").mkdir()
        user.write(
            "bin/kubectl", '#!/bin/sh\n[ "$5" = "jsonpath={.spec.serveConfigV2}" ] && cat serveConfigV2\n'
        )
        user.write("bin/eagleray", f'#!/bin/sh\nexec {sys.executable} -m eagleray.cli "$@"\n')
        for tool in (home / "bin").iterdir():
            tool.chmod(0o755)
        environ = user.environ | {"PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        (line,) = lines_of(KUBERAY)
        done = subprocess.run(
            ["bash", "-c", line], cwd=home, env=environ, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(get(url + QUERY)) == {"text": "Salut, Ada!"}

        user.write("paths.txt", f"{QUERY}\n/nothing\n")
        (line,) = lines_of(COMPARING)
        assert line.startswith("python compare.py http://ray:8000 http://eagleray:8000 ")
        for other, code in ((url, 0), (f"{url}/elsewhere", 1)):
            done = bash(f"{sys.executable} compare.py {url} {other} paths.txt", home)
            assert (done.returncode, QUERY in done.stdout) == (code, bool(code)), done.stderr


def test_the_tables_name_what_there_is() -> None:
    settings = (DOCS / "settings.md").read_text()
    known = set(re.findall(r"Also (RAY_\w+)", settings))
    as_they_are = PAGE.partition("These count as they are")[2].partition("| variable |")[0]
    assert set(re.findall(r"`(RAY_\w+)`", as_they_are)) == known
    assert set(re.findall(r"EAGLERAY_[A-Z_]+", PAGE)) <= set(re.findall(r"EAGLERAY_[A-Z_]+", settings))
    for option in ("keep_alive_timeout_s", "max_message_bytes", "max_constructor_retry_count"):
        assert f"`{option}`" in PAGE and f"`{option}`" in settings
    names = set(re.findall(r"`eagleray ([a-z-]+)", PAGE))
    done = subprocess.run(
        [sys.executable, "-m", "eagleray.cli", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert names <= set(re.findall(r"^  ([a-z-]+)  ", done.stdout, re.MULTILINE))


def test_the_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([\w-]*\.md)?#?([\w-]*)\)", PAGE):
        page = (DOCS / target[0]).read_text() if target[0] else PAGE
        anchors = {
            re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-")
            for line in re.findall(r"^#+ (.*)$", page, re.M)
        }
        assert not target[1] or target[1] in anchors, target
