"""Surface 1.7 and 1.17: the context of a replica and of a request."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from tests.compat.impl import App, Instance, exceptions, module, needs_processes, serve

current_request = module("context")._get_serve_request_context


def facts() -> dict[str, Any]:
    context = serve.get_replica_context()
    return {
        "app": context.app_name,
        "deployment": context.deployment,
        "tag": context.replica_tag,
        "unique_id": context.replica_id.unique_id,
        "deployment_id": (context.replica_id.deployment_id.name, context.replica_id.deployment_id.app_name),
        "text": str(context.replica_id),
        "full_id": context.replica_id.to_full_id_str(),
        "node_rank": context.rank.node_rank,
        "code_version": context.code_version,
        "max_ongoing_requests": context._deployment_config.max_ongoing_requests,
        "gang": context.gang_context,
        "rank": context.rank.rank,
        "world_size": context.world_size,
        "servable": type(context.servable_object).__name__,
    }


def request_facts() -> dict[str, Any]:
    context = current_request()
    return {"request_id": context.request_id, "app_name": context.app_name, "route": context.route}


@serve.deployment(num_replicas=2, user_config={"a": 1}, name="watched")
class Watched:
    def __init__(self) -> None:
        self.seen = {"init": serve.get_replica_context().replica_tag}

    def reconfigure(self, config: Any) -> None:
        self.seen["reconfigure"] = serve.get_replica_context().replica_tag

    def check_health(self) -> None:
        self.seen["check_health"] = serve.get_replica_context().replica_tag

    def __call__(self, request: Any = None) -> dict[str, Any]:
        return {**facts(), "seen": self.seen}

    async def later(self) -> dict[str, Any]:
        return facts()


@serve.deployment
class Asker:
    def __init__(self, child: Any) -> None:
        self.child = child

    async def __call__(self, request: Any = None) -> dict[str, Any]:
        in_task = await asyncio.create_task(asyncio.to_thread(request_facts))
        return {"own": request_facts(), "in_task": in_task, "child": await self.child.remote()}


@serve.deployment
def child_facts() -> dict[str, Any]:
    return request_facts()


@pytest.fixture(scope="module")
def watched(instance: Instance) -> App:
    return instance.run(Watched.bind(), name="contexts")


@pytest.fixture(scope="module")
def asker(instance: Instance) -> App:
    return instance.run(Asker.bind(child_facts.bind()), name="asker")


def test_outside_a_replica_there_is_no_context() -> None:
    with pytest.raises(exceptions.RayServeException):
        serve.get_replica_context()


@needs_processes
def test_the_replica_context_in_a_method(watched: App) -> None:
    found = watched.call()
    tag = found["tag"]
    assert found["app"] == "contexts"
    assert found["deployment"] == "watched"
    assert found["unique_id"] == tag
    assert found["deployment_id"] == ("watched", "contexts")
    assert found["text"] == f"Replica(id='{tag}', deployment='watched', app='contexts')"
    assert len(tag) == 8
    assert found["rank"] in (0, 1)
    assert found["world_size"] == 2
    assert found["servable"] == "Watched"
    assert found["full_id"] == f"SERVE_REPLICA::contexts#watched#{found['unique_id']}"
    assert found["node_rank"] == 0 and isinstance(found["code_version"], str) and found["code_version"]
    assert found["max_ongoing_requests"] == 5 and found["gang"] is None


def test_the_replica_context_in_the_hooks(watched: App) -> None:
    found = watched.call()
    assert found["seen"] == dict.fromkeys(["init", "reconfigure", "check_health"], found["tag"])


def test_the_replica_context_in_async_code_and_over_http(watched: App) -> None:
    assert watched.handle.later.remote().result(timeout_s=20)["app"] == "contexts"
    assert watched.get().json()["deployment"] == "watched"


@needs_processes
def test_ranks_are_contiguous(watched: App) -> None:
    ranks: dict[str, int] = {}
    while len(ranks) < 2:
        found = watched.call()
        ranks[found["tag"]] = found["rank"]
    assert sorted(ranks.values()) == [0, 1]


def test_the_request_context_over_http(asker: App) -> None:
    found = asker.get(headers={"x-request-id": "mine"}).json()
    assert found["own"] == {"request_id": "mine", "app_name": "asker", "route": "/asker"}


def test_the_request_id_follows_into_tasks_threads_and_child_calls(asker: App) -> None:
    found = asker.get(headers={"x-request-id": "follow"}).json()
    assert found["in_task"]["request_id"] == "follow"
    assert found["child"]["request_id"] == "follow"
    assert found["child"]["route"] == "/asker"


def test_a_handle_call_has_an_id_of_its_own(asker: App) -> None:
    response = asker.handle.remote()
    found = response.result(timeout_s=20)
    assert uuid.UUID(found["own"]["request_id"])
    assert found["own"]["request_id"] == response.request_id == found["child"]["request_id"]
