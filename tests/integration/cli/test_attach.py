"""Scripts beside `eagleray start`: they find the instance while it runs, and leave it as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.integration.cli.command import get
from tests.integration.cli.detached import Shell, shell

SCRIPT = """
import sys
from eagleray import serve

@serve.deployment
def word(request):
    return "from a script"

what = sys.argv[1]
if what == "run":
    handle = serve.run(word.bind(), name="scripted", route_prefix="/scripted")
    serve.start(http_options={"port": 1})
    print(handle.remote(None).result())
elif what == "start":
    serve.start(http_options={"port": 0})
elif what == "delete":
    serve.delete("scripted")
print(sorted(serve.status().applications), len(serve.status().proxies))
serve.shutdown()
"""


def script(user: Shell, what: str, **environ: str) -> subprocess.CompletedProcess[str]:
    (user.home / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py", what],
        cwd=user.home,
        env=user.environ | {"EAGLERAY_ATTACH": "1"} | environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_a_script_finds_the_instance_while_it_runs(home: Path) -> None:
    with shell(home) as user:
        assert script(user, "status").stdout == "[] 0\n", "there is none yet, and looking makes none"
        assert not list(home.glob("run/main*"))
        user.start()
        done = script(user, "run")
        assert done.stdout == "from a script\n['scripted'] 1\n"
        assert done.stderr.count("Using the instance of `eagleray start`") == 1
        assert "these HTTP options differ and are ignored: port" in done.stderr
        assert get(f"http://127.0.0.1:{user.port}/scripted") == "from a script", "it outlives its script"
        done = script(user, "status")
        assert done.stdout == "['scripted'] 1\n" and done.stderr == ""
        assert script(user, "start", EAGLERAY_ATTACH="0").stdout == "[] 1\n", "one of its own"
        assert script(user, "delete").stdout == "[] 1\n"
        assert user.details()["applications"] == {}


def test_a_script_trusts_nothing_that_is_left_of_an_instance_or_is_somebody_elses(home: Path) -> None:
    with shell(home) as user:
        user.start()
        user.kill_everything()
        assert (home / "run/main/controller.sock").exists()
        assert script(user, "status").stdout == "[] 0\n"
        os.chmod(home / "run/main", 0o755)
        assert script(user, "status").stdout == "[] 0\n"
        os.chmod(home / "run/main", 0o700)
        user.start()
