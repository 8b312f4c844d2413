"""GPUs, memory and custom resources are strict, CPUs a hint; what does not fit says what it lacks, the rest serves."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cli.command import Command, command, get
from tests.ports import free_port

PROGRAM = """
import os
from eagleray import serve

def look(deployment):
    return serve.status().applications["default"].deployments[deployment]

@serve.deployment
class Worker:
    async def __call__(self):
        return [os.environ.get("CUDA_VISIBLE_DEVICES"), os.getpid()]

@serve.deployment
class Front:
    def __init__(self, worker):
        self.worker = worker
    def __call__(self, request):
        one = look("Worker")
        return {
            "workers": [self.worker.remote().result(timeout_s=10) for _ in range(20)],
            "states": {str(state): count for state, count in one.replica_states.items()},
            "message": one.message,
            "own": os.environ.get("CUDA_VISIBLE_DEVICES"),
        }

def application(options):
    options = {key: float(value) for key, value in options.items()}
    count = int(options.pop("replicas"))
    known = {key: options.pop(key) for key in ("num_gpus", "num_cpus", "memory") if key in options}
    actor = known | ({"resources": options} if options else {})
    return Front.bind(Worker.options(num_replicas=count, ray_actor_options=actor).bind())
"""


@pytest.fixture
def arguments(home: Path) -> list[str]:
    (home / "resources.py").write_text(PROGRAM)
    return ["resources:application", "--port", str(free_port())]


def served(running: Command, arguments: list[str]) -> str:
    """The URL, whether or not all of the application is up."""
    return f"http://127.0.0.1:{arguments[2]}/"


def devices(url: str, running: Command, replicas: int) -> Counter[str]:
    """How many replicas see which GPUs, once each has answered."""
    seen: dict[int, str] = {}

    def asked_all() -> bool:
        seen.update({pid: gpus for gpus, pid in json.loads(get(url))["workers"]})
        return len(seen) == replicas

    running.wait(asked_all, f"answers of {replicas} replicas")
    return Counter(seen.values())


@pytest.mark.parametrize(
    ("share", "replicas", "expected"),
    [
        ("0.5", 4, {"0": 2, "1": 2}),
        ("0.25", 5, {"0": 4, "1": 1}),
        ("1", 2, {"0": 1, "1": 1}),
        ("2", 1, {"0,1": 1}),
    ],
)
def test_gpus_are_shared_out(
    home: Path, arguments: list[str], share: str, replicas: int, expected: dict[str, int]
) -> None:
    with command(
        home, *arguments, f"num_gpus={share}", f"replicas={replicas}", EAGLERAY_NUM_GPUS="2"
    ) as running:
        url = running.wait_served()
        assert devices(url, running, replicas) == expected
        assert json.loads(get(url))["own"] == ""  # one that asks for none sees none


@pytest.mark.parametrize(
    ("demand", "replicas", "environ", "fitting", "message"),
    [
        ("num_gpus=1", 3, {}, 2, "a replica needs num_gpus=1, free 0 of 2"),
        ("num_gpus=0.75", 3, {}, 2, "a replica needs num_gpus=0.75, free 0.5 of 2"),
        (
            "scanner=2",
            2,
            {"EAGLERAY_RESOURCES": '{"scanner": 3}'},
            1,
            "needs resources['scanner']=2, free 1 of 3",
        ),
    ],
    ids=["whole gpus", "parts of gpus", "custom"],
)
def test_what_does_not_fit_waits_and_the_rest_serves(
    home: Path,
    arguments: list[str],
    demand: str,
    replicas: int,
    environ: dict[str, str],
    fitting: int,
    message: str,
) -> None:
    settings = {"EAGLERAY_NUM_GPUS": "2"} | environ
    with command(home, *arguments, demand, f"replicas={replicas}", **settings) as running:
        running.wait(lambda: message in running.err.text, "the notice")
        state = look(running, arguments, {"RUNNING": fitting})
        assert message in state["message"] and state["message"].startswith("Waiting for resources")
        assert running.out.text == ""


def look(running: Command, arguments: list[str], states: dict[str, int]) -> dict[str, Any]:
    """The answer, once the workers are as expected."""
    url = f"http://127.0.0.1:{arguments[2]}/"
    found: dict[str, Any] = {}

    def is_so() -> bool:
        try:
            found.update(json.loads(get(url)))
        except (OSError, AssertionError):  # not up yet
            return False
        return bool(found["states"] == states)

    running.wait(is_so, f"workers {states}")
    return found


def test_memory_is_strict(home: Path, arguments: list[str]) -> None:
    with command(home, *arguments, "memory=1e15", "replicas=1") as running:
        running.wait(lambda: "Worker" in running.err.text, "the notice")
        assert "a replica needs memory=1000000000000000, free " in running.err.text
        running.signal()
        assert running.end() == 130


def test_resources_that_nobody_has_named(home: Path, arguments: list[str]) -> None:
    with command(home, *arguments, "scanner=1", "replicas=1") as running:
        running.wait(lambda: "Worker" in running.err.text, "the notice")
        assert "needs resources['scanner']=1, free 0 of 0" in running.err.text


def test_five_replicas_start_on_fewer_cpus_with_one_warning(home: Path, arguments: list[str]) -> None:
    with command(home, *arguments, "num_cpus=100", "replicas=5") as running:
        url = running.wait_served()
        assert sum(devices(url, running, 5).values()) == 5
        assert running.err.text.count("num_cpus=500") == len(running.err.text.splitlines()) == 1
