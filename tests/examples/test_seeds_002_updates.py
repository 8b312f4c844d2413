"""The RayService of document 002: deployed as a config file, updated in place, switched over; requests all the time."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.examples.seed_programs import SEEDS, declared, send_declared
from tests.integration.cli.detached import Shell, shell
from tests.waiting import wait_until

FILES = SEEDS / "d002" / "rayservice"


@pytest.fixture(scope="module")
def user() -> Iterator[Shell]:
    # Sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="er-") as home, shell(Path(home)) as one:
        one.environ |= {"EAGLERAY_NUM_GPUS": "8", "PORT": str(one.port)}
        one.start()
        one("deploy", str(FILES / "v1.yaml"), "--wait")
        yield one


def replicas(user: Shell, application: str) -> dict[str, set[str]]:
    """The ids of the replicas that run, by deployment."""
    deployments = user.details()["applications"][application]["deployments"]
    return {
        name: {one["replica_id"] for one in of["replicas"] if one["state"] == "RUNNING"}
        for name, of in deployments.items()
    }


@contextmanager
def asked_all_the_time(user: Shell) -> Iterator[list[str]]:
    """Asks RAG from two connections until the block ends; the versions that answered. Each answer must be right."""
    ask = declared.programs("d002/rag")[0].asks[0]
    versions: list[str] = []
    over = threading.Event()

    def keep_asking() -> None:
        with declared.Client(user.port) as client:
            while not over.is_set():
                answer = client.send(ask)
                assert ask.holds_for(answer), answer
                versions.append(answer.value["version"])

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(keep_asking) for _ in range(2)]
        try:
            wait_until(lambda: versions or any(one.done() for one in running), what="a first answer")
            yield versions
        finally:
            over.set()
        for one in running:
            one.result()


def test_a_rayservice_runs_at_its_sizes(user: Shell) -> None:
    sizes = {name: len(found) for name, found in replicas(user, "rag").items()}
    assert sizes == {"RAGService": 2, "QueryRewriter": 3, "VectorSearch": 1, "Reranker": 2, "LLMGenerator": 4}
    send_declared(user.port, "d002", "rayservice", prefix="")


def test_an_update_in_place_touches_only_what_has_changed(user: Shell) -> None:
    before = replicas(user, "rag")
    with asked_all_the_time(user) as versions:
        user("deploy", str(FILES / "in_place.yaml"), "--wait")
        seen = len(versions)
        wait_until(lambda: "v2" in versions[seen:], what="an answer of the new version")
    after = replicas(user, "rag")
    assert set(versions) == {"v1", "v2"}
    assert len(after["QueryRewriter"]) == 2 and after["QueryRewriter"] < before["QueryRewriter"]
    assert len(after["LLMGenerator"]) == 2 and after["LLMGenerator"] < before["LLMGenerator"]
    assert {name: after[name] for name in ("VectorSearch", "Reranker")} == {
        name: before[name] for name in ("VectorSearch", "Reranker")
    }
    assert not after["RAGService"] & before["RAGService"]


def test_blue_stays_until_green_takes_over(user: Shell) -> None:
    question: Any = {"query": "How old is the sun?"}
    with asked_all_the_time(user) as versions:
        user("deploy", str(FILES / "blue_green.yaml"), "--wait")
        with declared.Client(user.port) as client:
            assert client.send(declared.Ask("/rag", json=question)).value["version"] == "v2"
            assert client.send(declared.Ask("/green/rag", json=question)).value["version"] == "green"
        green = replicas(user, "rag-green")
        assert "green" not in versions
        user("deploy", str(FILES / "switched.yaml"), "--wait")
        wait_until(lambda: versions[-1] == "green", what="an answer of green")
    assert replicas(user, "rag-green") == green
    wait_until(lambda: "rag" not in user.details()["applications"], what="the end of blue")
    send_declared(user.port, "d002", "rag", prefix="")


def test_without_its_chat_server_rag_still_finds(user: Shell) -> None:
    config = yaml.safe_load((FILES / "switched.yaml").read_text())
    config["applications"] = [one for one in config["applications"] if one["name"] != "llm"]
    config["applications"][0]["runtime_env"]["working_dir"] = str(SEEDS)
    user("deploy", user.write("alone.yaml", yaml.safe_dump(config)), "--wait")
    wait_until(lambda: "llm" not in user.details()["applications"], what="the end of the chat server")
    with declared.Client(user.port) as client:
        answer = client.send(declared.Ask("/rag", json={"query": "How old is the sun?"}))
    assert answer.status == 200
    assert answer.value["answer"] is None and answer.value["sources"][0] == 1
