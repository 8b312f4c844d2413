"""`eagleray run --non-blocking`, which leaves what it serves running, and `controller-health`."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import yaml
from tests.integration.cli.command import get
from tests.integration.cli.detached import shell
from tests.integration.cli.test_run_config import CONFIG, MODELS
from tests.waiting import wait_until

STAYS = "--non-blocking"


def test_an_instance_is_started_used_again_and_left(home: Path) -> None:
    with shell(home) as user:
        user.write("models.py", MODELS)
        told = user.error("controller-health")
        assert "eagleray start" in told
        assert "exclude each other" in user.error("run", "models:app", STAYS, "--reload", code=2)
        port = ["--port", str(user.port)]
        told = user.error("run", "models:raises", STAYS, *port)
        assert "ValueError: no weights" in told and "Nothing of it can be served" in told
        assert "eagleray start" in user.error("status"), "what it has started is gone"

        done = user.run("run", "models:build", "name=first", STAYS, *port)
        user.remember()
        url = f"http://127.0.0.1:{user.port}/"
        assert done.stdout.startswith(f"Running import path: 'models:build'.\n  App    {url}\n")
        assert done.stdout.endswith("  Stop   eagleray shutdown\n") and "default: is running." in done.stderr
        assert get(url) == "first"

        file = user.write("c.yaml", CONFIG.format(port=user.port))
        done = user.run("run", file, STAYS, "--port", "1")
        assert "Running config file: 'c.yaml'." in done.stdout and f"  App    {url}two\n" in done.stdout
        assert "--port ignored" in done.stderr
        assert get(f"{url}two") == "second" and get(url) == "first", "what a script has deployed stays"
        user.error("run", "models:raises", STAYS, "--name", "bad", "--route-prefix", "/bad")
        assert get(url) == "first", "it was there before"

        shown = yaml.safe_load(user("controller-health"))
        found = json.loads(user("controller-health", "--json"))
        assert set(found) == set(shown) and found["controller_start_time"] == shown["controller_start_time"]
        assert found["num_control_loops"] > 3 and found["process_memory_mb"] > 10
        assert 0 < found["loop_duration_s"]["mean"] <= found["loop_duration_s"]["max"]
        assert found["num_asyncio_tasks"] > 1 and found["uptime_s"] > 0


def test_a_start_that_fails_deletes_nothing_of_former_lives(home: Path) -> None:
    with shell(home) as user:
        user.write("models.py", MODELS)
        user.start()
        user("deploy", "models:build", "name=first", "--name", "kept", "--wait")
        user.remember()
        user.kill_everything()
        with socket.create_server(("127.0.0.1", user.port)):
            assert "is in use" in user.error("start", "--http-port", str(user.port))
            assert "is in use" in user.error("run", "models:build", STAYS, "--port", str(user.port))
        told = user.error("run", "models:raises", STAYS, "--route-prefix", "/x", "--port", str(user.port))
        assert "Nothing of it can be served" in told
        assert "eagleray start" in user.error("status")
        user.start()
        wait_until(lambda: user.status("kept")["status"] == "RUNNING", "the application of the former life")
        assert get(f"http://127.0.0.1:{user.port}/") == "first"
        assert list(user.details()["applications"]) == ["kept"], "and what could not be served has gone"
