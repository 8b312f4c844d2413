"""Scripts beside `eagleray start`: they find the instance while it runs, and leave it as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.integration.cli.command import get
from tests.integration.cli.detached import Shell, shell
from tests.waiting import wait_until

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


SLOW = """
import asyncio
from pathlib import Path
from eagleray import serve

@serve.deployment(max_ongoing_requests=1)
class Slow:
    async def __call__(self, seconds):
        Path(__file__).with_name("begun").touch()
        await asyncio.sleep(seconds)
        return "done"

app = Slow.bind()
"""

WAITING = """
import sys
from eagleray import serve
from eagleray.serve.exceptions import RayServeException

handle = serve.get_app_handle("default")
running, waiting = handle.remote(600.0), handle.remote(0.0)
print("sent", flush=True)
for response in running, waiting:
    try:
        response.result()
    except RayServeException as error:
        print(type(error).__name__, flush=True)
sys.stdin.readline()
print(handle.remote(0.0).result(), flush=True)
"""


def test_calls_that_wait_do_not_outlive_the_instance(home: Path) -> None:
    with shell(home) as user:
        user.write("slow.py", SLOW)
        (home / "script.py").write_text(WAITING)
        user.start()
        user("deploy", "slow:app", "--wait")
        user.remember()
        process = subprocess.Popen(
            [sys.executable, "script.py"],
            cwd=user.home,
            env=user.environ | {"EAGLERAY_ATTACH": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None and process.stdin is not None
            assert process.stdout.readline() == "sent\n"
            wait_until((home / "begun").exists, "the first call")
            user.kill_everything()
            assert process.stdout.readline() == "ReplicaDiedError\n"
            assert process.stdout.readline() == "NotRunningError\n"
            user.start()
            process.stdin.write("\n")
            process.stdin.close()
            assert process.stdout.readline() == "done\n", "its handles serve the next life, too"
            assert process.wait(60) == 0
