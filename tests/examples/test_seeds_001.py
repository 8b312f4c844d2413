"""The programs of document 001 as users run them, on a real embedding model, over HTTP."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.examples.seed_programs import SEEDS, declared, document_served, names, send_declared
from tests.fault.instance import ROOT, Instance, serving
from tests.ports import free_port
from tests.processes import descendants, still_alive
from tests.waiting import wait_until

from eagleray.admin.metrics_port import URL_FILE as METRICS_URL_FILE

DOCUMENT = "d001"
PATH = "/embedding/api"
REPLICAS = 4


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    # One replica comes to its 101st request sooner than three; six are looked at below.
    one = {"load_balanced": [{"name": "LoadBalancedModel", "num_replicas": 1}]}
    with document_served(DOCUMENT, tmp_path_factory.mktemp(DOCUMENT), one, EAGLERAY_NUM_GPUS="2") as running:
        yield running


@pytest.fixture(scope="module")
def production() -> Iterator[Instance]:
    env = {"EAGLERAY_NUM_GPUS": "1", "EAGLERAY_METRICS_EXPORT_PORT": "0"}
    with serving("d001/embedding/production.yaml", "examples/seeds", env) as running:
        yield running


def send(port: int, path: str, json: Any = None) -> Any:
    """The value of an answer that is 200."""
    with declared.Client(port) as client:
        answer = client.send(declared.Ask(path, json=json))
    assert answer.status == 200, answer
    return answer.value


def embed(port: int, texts: list[str], is_query: bool) -> list[list[float]]:
    found: list[list[float]] = send(port, PATH, {"input": texts, "is_query": is_query})
    return found


def debug_pages(port: int) -> dict[str, dict[str, Any]]:
    """Of all four replicas, by their names."""
    pages: dict[str, dict[str, Any]] = {}

    def ask_one() -> bool:
        page = send(port, "/debug")
        pages[page["replica"]] = page
        return len(pages) == REPLICAS

    wait_until(ask_one, what="an answer of each replica")
    return pages


@pytest.mark.parametrize("name", names(DOCUMENT))
def test_a_program_answers_what_it_declares(instance: Instance, name: str) -> None:
    send_declared(instance.port, DOCUMENT, name)


def test_the_production_service_answers_what_it_declares(production: Instance) -> None:
    send_declared(production.port, DOCUMENT, "embedding", "")


def test_four_replicas_share_one_gpu(production: Instance) -> None:
    assert {page["gpu"] for page in debug_pages(production.port).values()} == {"0"}


def test_a_query_that_comes_again_is_remembered(production: Instance) -> None:
    def count(what: str) -> int:
        return sum(page["cache"][what] for page in debug_pages(production.port).values())

    hits, misses, asked = count("hits"), count("misses"), 40
    vectors = [embed(production.port, ["what does a hive know?"], True) for _ in range(asked)]
    assert all(vector == vectors[0] for vector in vectors)
    assert 1 <= count("misses") - misses <= REPLICAS
    assert count("hits") - hits + count("misses") - misses == asked


def test_of_a_document_all_is_read_and_of_a_query_the_beginning(production: Instance) -> None:
    from d001.embedding.traffic import nearest

    dull = "The minutes of the meeting were read and nobody had anything to add. " * 40
    texts = [dull, dull + "A beekeeper then told how bees dance. " * 20]
    (query,) = embed(production.port, ["dances of bees"], True)
    assert nearest(query, embed(production.port, texts, False)) == 1
    first, second = embed(production.port, texts, True)
    assert first == pytest.approx(second, abs=1e-6)


def test_links_have_the_root_path_of_the_proxy_in_front(production: Instance) -> None:
    page = send(production.port, "/openapi.json")
    assert page["servers"] == [{"url": "/api/v1"}]
    assert PATH in page["paths"]


def test_requests_and_their_latency_are_counted(production: Instance) -> None:
    (directory,) = production.runtime_dirs()
    url = Path(directory, METRICS_URL_FILE).read_text().strip()

    def total(sample_name: str, **labels: str) -> float:
        with urllib.request.urlopen(url, timeout=30) as reply:
            families = text_string_to_metric_families(reply.read().decode())
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == sample_name and labels.items() <= sample.labels.items()
        )

    before, asked = total("ray_embedding_requests_total", kind="query"), 5
    for _ in range(asked):
        embed(production.port, ["how many?"], True)

    def are_counted() -> bool:
        requests = total("ray_embedding_requests_total")
        return (
            total("ray_embedding_requests_total", kind="query") >= before + asked
            and total("ray_embedding_latency_count") == requests
        )

    wait_until(are_counted, what="five more queries, and a latency for each request")


def test_a_replica_with_many_requests_takes_the_shorter_way(instance: Instance) -> None:
    ranking = {"query": "a hive", "passages": ["sourdough", "bees"]}
    with declared.Client(instance.port, "/load_balanced") as client:

        def ask() -> bool:
            value = client.send(declared.Ask("/api", json=ranking)).value
            assert value["order"] == [1, 0]
            assert (value["mode"] == "short") == (value["request_count"] > 100)
            return bool(value["mode"] == "short")

        wait_until(ask, what="a replica with more than 100 requests", deadline_s=120)


def test_six_replicas_are_spread_over_two_gpus(tmp_path: Path) -> None:
    config = tmp_path / "heavy_load.yaml"
    application = {"import_path": "d001.load_balanced.app:app", "args": {"layout": "heavy_load"}}
    config.write_text(yaml.safe_dump({"applications": [application]}))
    ranking = {"query": "a hive", "passages": ["sourdough", "bees"]}
    with serving(str(config), "examples/seeds", {"EAGLERAY_NUM_GPUS": "2"}) as running:
        gpus: dict[str, str] = {}

        def ask() -> bool:
            value = send(running.port, "/api", ranking)
            gpus[value["replica"]] = value["gpu"]
            return len(gpus) == 6

        wait_until(ask, what="six replicas", deadline_s=60)
    assert Counter(gpus.values()) == {"0": 3, "1": 3}


@contextmanager
def script_of_ray(folder: Path) -> Iterator[int]:
    """The start script with the document's imports, those of Ray, until Ctrl-C; its port."""
    for name in (DOCUMENT, "models"):
        shutil.copytree(SEEDS / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in folder.glob("d001/**/*.py"):
        file.write_text(file.read_text().replace("from eagleray", "from ray"))
    port = free_port()
    homes = {"EAGLERAY_RUNTIME_HOME": f"{folder}/run", "EAGLERAY_STATE_HOME": f"{folder}/state"}
    instance = {"EAGLERAY_NUM_GPUS": "1", "EAGLERAY_ATTACH": "0", "HOST": "127.0.0.1", "PORT": str(port)}
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            [
                sys.executable,
                "-W",
                "default::DeprecationWarning",
                "-m",
                "eagleray.as_ray",
                "-m",
                "d001.embedding.start",
            ],
            env=os.environ | homes | instance | {"PYTHONPATH": f"{ROOT}/src"},
            cwd=folder,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:

        def is_up() -> bool:
            assert process.poll() is None, (folder / "said").read_text()
            try:
                return send(port, "/health") is not None
            except (OSError, AssertionError):
                return False

        wait_until(is_up, what="the script's service", deadline_s=90)
        yield port
        everything = {process.pid, *descendants(process.pid)}
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, (folder / "said").read_text()
        assert not still_alive(everything)
    finally:
        process.kill()
        process.wait()


def test_the_documents_script_runs_with_its_own_imports(tmp_path: Path) -> None:
    from d001.embedding.traffic import DOCUMENTS, QUESTIONS, nearest

    with script_of_ray(tmp_path) as port, ThreadPoolExecutor(1) as pool:
        (query,) = embed(port, QUESTIONS[:1], True)
        assert nearest(query, embed(port, DOCUMENTS, False)) == 0
        # The only replica answers while its model is at work for somebody else.
        many = pool.submit(embed, port, DOCUMENTS * 30, False)
        seen = 0
        while not many.done():
            seen = max(seen, send(port, "/debug")["active_requests"])
        assert seen == 1
        assert len(many.result()) == 30 * len(DOCUMENTS)
    assert "max_concurrent_queries" in (tmp_path / "said").read_text()
