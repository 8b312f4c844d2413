"""SIGTERM to a detached instance: not ready at once, served for a while, drained, and back at the next start."""

from __future__ import annotations

import http.client
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.integration.cli.detached import Shell, shell
from tests.processes import wait_gone
from tests.waiting import wait_until

MODELS = """
import asyncio, os
from eagleray import serve

@serve.deployment(num_replicas=2)
class Model:
    async def __call__(self, request):
        if request.url.path == "/long":
            open(f"begun {os.getpid()}", "w").close()
            while not os.path.exists("go"):
                await asyncio.sleep(0.01)
            return "long"
        return "short"

    def __del__(self):
        with open(f"deleted {os.getpid()}", "a") as file:
            file.write("x")

app = Model.bind()
"""

CONFIG = """
applications:
- {name: default, route_prefix: /, import_path: "models:app", runtime_env: {working_dir: %s}}
"""


class Client:
    """A keep-alive connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def get(self, path: str) -> tuple[int, str, str | None]:
        self.connection.request("GET", path)
        reply = self.connection.getresponse()
        return reply.status, reply.read().decode(), reply.headers["connection"]


def one(port: int, path: str) -> tuple[int, str, str | None]:
    client = Client(port)
    try:
        return client.get(path)
    finally:
        client.connection.close()


def refuses(port: int) -> bool:
    """Whether a new connection is refused at once; one that is taken is given back unused."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
    except ConnectionRefusedError:
        return True
    return False


def deployed(instance: Shell, home: Path) -> None:
    instance.write("models.py", MODELS)
    instance.start()
    instance("deploy", instance.write("config.yaml", CONFIG % home))
    wait_until(lambda: instance.status("default")["status"] == "RUNNING", "it runs")


def test_ready_no_more_then_drained_then_back(home: Path) -> None:
    with shell(home) as instance, ThreadPoolExecutor(1) as pool:
        instance.environ["EAGLERAY_DRAIN_DELAY_S"] = "2"
        deployed(instance, home)
        before, node = instance.processes(), instance.node()
        kept = Client(instance.port)
        assert kept.get("/") == (200, "short", None)
        long = pool.submit(one, instance.port, "/long")
        wait_until(lambda: list(home.glob("begun *")), "the long request is at work")
        os.kill(node, signal.SIGTERM)
        wait_until(lambda: one(instance.port, "/-/healthz")[0] == 503, "not ready")
        assert kept.get("/") == (200, "short", "close"), "still served, for the last time on this connection"
        assert one(instance.port, "/") == (200, "short", "close")
        kept.connection.close()
        wait_until(lambda: refuses(instance.port), "nobody listens any more")
        assert not long.done()
        (home / "go").touch()
        assert long.result(60)[:2] == (200, "long")
        assert not wait_gone(before, 60.0)
        assert [path.read_text() for path in home.glob("deleted *")] == ["x", "x"]
        instance.start()
        wait_until(lambda: instance.status("default")["status"] == "RUNNING", "it is back")
        assert one(instance.port, "/")[1] == "short"


def test_a_shutdown_refuses_connections_and_finishes_requests(home: Path) -> None:
    with shell(home) as instance, ThreadPoolExecutor(2) as pool:
        deployed(instance, home)
        long = pool.submit(one, instance.port, "/long")
        wait_until(lambda: list(home.glob("begun *")), "the long request is at work")
        ended = pool.submit(instance, "shutdown", "-y")
        wait_until(lambda: refuses(instance.port), "nobody listens any more")
        assert not long.done()
        assert not ended.done()
        (home / "go").touch()
        assert long.result(60)[:2] == (200, "long")
        ended.result(60)
        instance.start()


def test_a_second_one_does_not_wait(home: Path) -> None:
    with shell(home) as instance:
        instance.environ["EAGLERAY_DRAIN_DELAY_S"] = "600"
        deployed(instance, home)
        before, node = instance.processes(), instance.node()
        os.kill(node, signal.SIGTERM)
        wait_until(lambda: one(instance.port, "/-/healthz")[0] == 503, "not ready")
        os.kill(node, signal.SIGTERM)
        assert not wait_gone(before, 60.0)
        instance.environ["EAGLERAY_DRAIN_DELAY_S"] = "0"
        instance.start()


def test_in_the_foreground_it_is_handed_on(home: Path) -> None:
    """What systemd and containers start has to stay, and to go in order when it is told to."""
    with shell(home) as instance:
        instance.environ["EAGLERAY_DRAIN_DELAY_S"] = "0"
        blocked = instance.start_in_foreground()
        instance("deploy", instance.write("models.yaml", CONFIG % home), "--wait", code=1)
        instance.write("models.py", MODELS)
        instance("deploy", instance.write("config.yaml", CONFIG % home), "--wait")
        before = instance.processes()
        blocked.send_signal(signal.SIGTERM)
        assert blocked.wait(60) == 0
        assert not wait_gone(before, 60.0)
        assert [path.read_text() for path in home.glob("deleted *")] == ["x", "x"]
