"""The programs of document 000 as users run them, on models trained here, over HTTP."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.examples.modules import load_module
from tests.examples.seed_programs import SEEDS, declared, document_served, names, send_declared
from tests.fault.instance import ROOT, Instance, serving
from tests.integration.serve.test_environments import make_wheel
from tests.ports import free_port
from tests.processes import descendants, wait_gone
from tests.waiting import wait_until

DOCUMENT = "d000"
FLOWER = [5.1, 3.5, 1.4, 0.2]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All model files of the document, trained once."""
    train = load_module(SEEDS / "d000" / "train.py", "d000_train")
    folder = tmp_path_factory.mktemp("models")
    for name in train.RECIPES:
        train.make(name, folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For what the instance writes."""
    return tmp_path_factory.mktemp(DOCUMENT)


@pytest.fixture(scope="module")
def instance(models: Path, folder: Path) -> Iterator[Instance]:
    make_wheel(folder, "0.9.0", "tabulate")  # what the production model installs
    settings = {
        "EAGLERAY_NUM_GPUS": "3",
        "EAGLERAY_METRICS_EXPORT_PORT": "0",
        "EAGLERAY_ENVIRONMENT_HOME": str(folder / "environments"),
        "D000_MODELS": str(models),
        "PIP_FIND_LINKS": str(folder),
        "PIP_NO_INDEX": "1",
        "PRODUCTION_LOGS": str(folder / "production-logs"),
        "PRODUCTION_MEMORY_MB": "1000",  # three replicas of 4 GiB beside all others are more than many machines have
    }
    with document_served(DOCUMENT, folder, **settings) as running:
        yield running


@pytest.mark.parametrize("name", names(DOCUMENT))
def test_a_program_answers_what_it_declares(instance: Instance, name: str) -> None:
    send_declared(instance.port, DOCUMENT, name)


RECOGNISING = """
import sys
without_torch = sys.argv[1] == "numpy"
if without_torch:
    sys.modules["torch"] = None
import numpy as np
from d000.digits import UNSEEN
from d000.gpu_model.network import NumpyNetwork, load
for file in sys.argv[2:]:
    chosen = load(file)
    assert (chosen.device == "numpy") == without_torch, chosen.device
    by_numpy = NumpyNetwork({name: array.astype(np.float32) for name, array in np.load(file).items()})
    for image, digit in UNSEEN:
        found = chosen.probabilities(np.array(image) / 16)
        assert found.argmax() == digit
        np.testing.assert_allclose(found, by_numpy.probabilities(np.array(image) / 16), atol=1e-4)
"""
NEEDS_TORCH = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="PyTorch is not installed: `make test` does it where pip finds a build for CPUs",
)


@pytest.mark.parametrize("library", ["numpy", pytest.param("torch", marks=NEEDS_TORCH)])
def test_the_network_answers_the_same_with_pytorch_and_without(models: Path, library: str) -> None:
    files = [str(models / name) for name in ("digits_small.npz", "digits_large.npz")]
    subprocess.run(
        [sys.executable, "-c", RECOGNISING, library, *files],
        cwd=SEEDS,
        env=os.environ | {"PYTHONPATH": str(SEEDS)},
        check=True,
        timeout=120,
    )


def answers(port: int, name: str, body: Any, count: int, connections: int = 4) -> list[Any]:
    """What the program answers to `count` requests, sent by several connections; all must be answered with 200."""

    def send(part: int) -> list[Any]:
        with declared.Client(port, f"/{name}") as client:
            return [client.send(declared.Ask(json=body)) for _ in range(part, count, connections)]

    with ThreadPoolExecutor(connections) as pool:
        found = [one for part in pool.map(send, range(connections)) for one in part]
    assert {one.status for one in found} == {200}
    return [one.value for one in found]


def test_a_tenth_of_the_requests_goes_to_the_new_version(instance: Instance) -> None:
    found = answers(instance.port, "model_versions", {"features": FLOWER}, 600)
    share = sum(one["model_version"] == "v2" for one in found) / len(found)
    # Six standard deviations to either side: one run of a billion is outside by chance.
    assert 0.1 - 6 * (0.09 / len(found)) ** 0.5 < share < 0.1 + 6 * (0.09 / len(found)) ** 0.5


def test_requests_that_come_together_share_a_batch(instance: Instance) -> None:
    found = answers(instance.port, "batch_model", {"input": [0.0] * 64}, 64, connections=16)
    assert max(one["batch_size"] for one in found) > 1


def test_the_ensemble_and_the_resilient_model_survive_what_fails(instance: Instance) -> None:
    for _ in range(3):
        with declared.Client(instance.port, "/ensemble_model") as client:
            assert client.send(declared.Ask(json={"data": [[1.0, 2.0, 3.0]]})).status == 500
    send_declared(instance.port, DOCUMENT, "ensemble_model")
    assert {one["model"] for one in answers(instance.port, "resilient_model", {"data": [[1.0, 2.0]]}, 8)} == {
        "fallback"
    }
    send_declared(instance.port, DOCUMENT, "resilient_model")


def test_three_production_replicas_write_their_logs_where_they_should(
    instance: Instance, folder: Path
) -> None:
    seen: set[str] = set()

    def all_have_answered() -> bool:
        seen.update(
            one["replica_id"] for one in answers(instance.port, "production_model", {"data": FLOWER}, 8)
        )
        return len(seen) == 3

    wait_until(all_have_answered, what="answers by three replicas")
    logs = "".join(file.name for file in (folder / "production-logs").glob("*.log"))
    assert all(replica in logs for replica in seen)


def test_load_brings_replicas_as_the_own_configuration_computes(instance: Instance) -> None:
    seen: set[str] = set()

    def others_have_come() -> bool:
        seen.update(
            one["replica_id"]
            for one in answers(instance.port, "custom_autoscaling", {"features": FLOWER}, 40)
        )
        return len(seen) > 1

    wait_until(others_have_come, what="a second replica, with many times 5 requests a second", deadline_s=120)


def test_prometheus_is_told_of_predictions(instance: Instance) -> None:
    (file,) = instance.home.glob("run/*/metrics.url")
    found = answers(instance.port, "monitored_production_model", {"data": FLOWER}, 5)
    assert {one["prediction"] for one in found} == {0}

    def told() -> bool:
        with urllib.request.urlopen(file.read_text().strip(), timeout=30) as reply:
            text = reply.read().decode()
        return 'species="0"' in text and "flower_latency_ms_bucket" in text

    wait_until(told, what="the metrics of the model")


def test_what_lacks_its_files_fails_by_itself(models: Path, tmp_path: Path) -> None:
    failing = ("lost", "unknown", "ensemble")
    applications = [
        {"name": name, "route_prefix": f"/{name}", "import_path": f"tests.examples.failing_seeds:{name}"}
        for name in (*failing, "resilient")
    ]
    config = tmp_path / "failing.yaml"
    config.write_text(yaml.safe_dump({"applications": applications}))
    env = {"D000_MODELS": str(models), "EAGLERAY_NUM_GPUS": "1"}
    with serving(str(config), folder="examples/seeds", env=env) as running:
        for name in failing:
            with declared.Client(running.port, f"/{name}") as client:
                assert client.send(declared.Ask(json={"features": FLOWER})).status == 503, name
        found = answers(running.port, "resilient", {"data": [FLOWER]}, 4)
        assert found == [{"prediction": [2], "model": "fallback"}] * 4


@contextmanager
def script_served(program: declared.Program, models: Path) -> Iterator[tuple[int, str]]:
    """The port of a script that serves, and what it has said before; Ctrl-C ends it, and nothing is left."""
    with tempfile.TemporaryDirectory(prefix="er-") as home:  # tmp_path is too long for sockets
        instance = {"EAGLERAY_RUNTIME_HOME": f"{home}/run", "EAGLERAY_STATE_HOME": f"{home}/state"}
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, *program.command, "--port", str(port)],
            cwd=SEEDS,
            env=os.environ
            | instance
            | dict(program.env)
            | {"D000_MODELS": str(models), "PYTHONPATH": f"{ROOT}/src"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        started = {process.pid}
        try:
            said = ""
            for line in process.stdout:
                said += line
                if line.split()[:1] == ["Stop"]:
                    break
            else:
                raise AssertionError(f"the script has ended: {said}")
            started |= descendants(process.pid)
            yield port, said
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
            assert not wait_gone(started, timeout_s=60)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def test_the_script_deploys_asks_changes_and_loads_everything(models: Path) -> None:
    (program,) = declared.programs(f"{DOCUMENT}/deploy_and_manage")
    with script_served(program, models) as (port, said):
        send_declared(port, DOCUMENT, "deploy_and_manage", prefix="")
    for text in (
        "'request_count': 3, 'error_count': 1",
        "'requests_total': 3, 'requests_failed': 1",
        "Versions after the rollback: ['v1']",
        "Successful: 1000",
    ):
        assert text in said
