"""Surface 1.11 and 6.7: who chooses the replica, by which rule."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from tests.compat.impl import App, Instance, differs, module, serve
from tests.compat.routers import Broken, ByStats, Pinning, Unmakeable
from tests.compat.world import Gate, Journal
from tests.waiting import wait_until

RequestRouterConfig = module("config").RequestRouterConfig
RequestRouter = module("request_router").RequestRouter
NAME = {"eagleray.serve": "eagleray.serve", "ray.serve": "ray.serve"}[serve.__name__]


@serve.deployment(num_replicas=2, max_ongoing_requests=10)
class Who:
    """Says which replica it is."""

    async def __call__(self, *_: Any) -> str:
        return str(serve.get_replica_context().replica_tag)

    async def wait(self, gate: Gate) -> str:
        await gate.passed()
        return str(serve.get_replica_context().replica_tag)


def run(instance: Instance, router: Any, deployment: Any = Who, **options: Any) -> App:
    config = RequestRouterConfig(request_router_class=router, **options)
    return instance.run(deployment.options(request_router_config=config).bind())


def settled(app: App, condition: Callable[[], Any]) -> None:
    """Handles hear of replicas one by one."""
    wait_until(condition, "the router to know its replicas")


ROUND_ROBIN = f"{NAME}.experimental.round_robin_router.RoundRobinRouter"
CONSISTENT_HASH = f"{NAME}.experimental.consistent_hash_router:ConsistentHashRouter"


def test_round_robin_takes_turns(instance: Instance) -> None:
    app = run(instance, ROUND_ROBIN)
    settled(app, lambda: app.call() != app.call())
    found = [app.call() for _ in range(10)]
    assert found[::2] == [found[0]] * 5 and found[1::2] == [found[1]] * 5


@pytest.mark.parametrize("by_header", [True, False])
def test_a_session_stays_with_its_replica(instance: Instance, by_header: bool) -> None:
    app = run(instance, CONSISTENT_HASH, request_router_kwargs={"num_virtual_nodes": 50})

    def ask(session_id: str) -> str:
        if by_header:
            return app.get(headers={"x-session-id": session_id}).text
        return str(app.handle.options(session_id=session_id).remote().result(timeout_s=20))

    settled(app, lambda: len({ask(str(number)) for number in range(20)}) == 2)
    first = {str(number): ask(str(number)) for number in range(20)}
    for _ in range(3):
        assert {session: ask(session) for session in first} == first
    assert len(set(first.values())) == 2


def test_a_custom_router_chooses_and_hears_what_becomes_of_it(instance: Instance, journal: Journal) -> None:
    app = run(instance, Pinning, request_router_kwargs={"journal": journal.path})
    app.call("first")
    journal.wait_for(f"{os.getpid()} knows 2")
    chosen = app.call("x")
    assert {app.call("x") for _ in range(10)} == {chosen}
    settled(app, lambda: app.get().text == chosen)
    assert {app.get().text for _ in range(5)} == {chosen}, "the proxy runs it too"
    journal.wait_for(f"routed __call__ ['x'] {chosen}", count=11)
    journal.wait_for("completed", count=11)


def test_a_full_replica_is_passed_over_by_the_ranks(instance: Instance, journal: Journal, gate: Gate) -> None:
    narrow = Who.options(max_ongoing_requests=1)
    app = run(instance, Pinning, narrow, request_router_kwargs={"journal": journal.path})
    app.call()
    journal.wait_for(f"{os.getpid()} knows 2")
    first = app.call()
    waiting = [app.handle.wait.remote(gate) for _ in range(3)]
    gate.open()
    found = Counter(response.result(timeout_s=20) for response in waiting)
    assert sum(found.values()) == 3 and found[first]


def test_statistics_of_replicas_reach_the_router(instance: Instance) -> None:
    @serve.deployment(num_replicas=2)
    class Costly:
        async def __call__(self) -> str:
            return str(serve.get_replica_context().replica_tag)

        def record_routing_stats(self) -> dict[str, Any]:
            tag = serve.get_replica_context().replica_tag
            return {"cost": float(int.from_bytes(tag.encode(), "big") % 10**9)}

    app = run(instance, ByStats, Costly, request_routing_stats_period_s=0.1)
    settled(app, lambda: len({app.call() for _ in range(12)}) == 1)


@differs("router-errors-cost-no-request")
@pytest.mark.parametrize("router", [Broken, Unmakeable])
def test_a_router_that_fails_costs_no_request(instance: Instance, router: Any) -> None:
    app = run(instance, router)
    settled(app, lambda: len({app.call() for _ in range(40)}) == 2)
    assert app.get().status == 200


@differs("router-classes-by-value")
def test_a_router_class_of_a_function_works(instance: Instance) -> None:
    class Local(Pinning):
        def initialize_state(self, **kwargs: Any) -> None:
            pass

        def update_replicas(self, *args: Any) -> None:
            RequestRouter.update_replicas(self, *args)

        def on_request_routed(self, *args: Any) -> None:
            pass

        def on_request_completed(self, *args: Any) -> None:
            pass

    app = run(instance, Local)
    settled(app, lambda: len({app.call() for _ in range(10)}) == 1)


def test_the_config_has_the_documented_defaults() -> None:
    config = RequestRouterConfig()
    assert config.request_router_class.endswith(":PowerOfTwoChoicesRequestRouter")
    assert config.request_router_kwargs == {}
    assert (config.request_routing_stats_period_s, config.request_routing_stats_timeout_s) == (10, 30)
    assert (config.initial_backoff_s, config.backoff_multiplier, config.max_backoff_s) == (0.025, 2, 0.5)


@pytest.mark.parametrize(
    "options",
    [
        {"request_routing_stats_period_s": 0},
        {"initial_backoff_s": -1},
        {"backoff_multiplier": 0},
        {"request_router_kwargs": {"a": object()}},
    ],
)
def test_a_config_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        RequestRouterConfig(**options)


def test_a_dict_will_do_as_config() -> None:
    deployment = serve.deployment(request_router_config={"max_backoff_s": 1})(Who.func_or_class)
    assert deployment.options(max_ongoing_requests=2).name == "Who"
