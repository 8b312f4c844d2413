"""What custom routers are given: requests with their facts, hooks, and the mixins' helpers."""

from __future__ import annotations

from typing import Any

from tests.unit.routing.test_chooser import World, run, until

from eagleray.base.ids import DeploymentID, ReplicaID
from eagleray.routing import router_mixins
from eagleray.routing.chooser import UserChooser
from eagleray.routing.request_router import PendingRequest, RequestMetadata, RequestRouter, RunningReplica
from eagleray.routing.router_mixins import LocalityMixin, MultiplexMixin
from eagleray.wire.messages import ReplicaReport

DEPLOYMENT = DeploymentID("d", "app")


class Nearest(LocalityMixin, MultiplexMixin, RequestRouter):
    """Its helpers are asked one by one."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: Any = None
    ) -> Any:
        return [candidate_replicas]


def asked(model_id: str = "") -> PendingRequest:
    metadata = RequestMetadata("r", "i", multiplexed_model_id=model_id)
    return PendingRequest([1], {"key": 2}, metadata)


def names(found: Any) -> Any:
    """Replicas, or their ids, by their letters."""
    if isinstance(found, set):
        return {one.unique_id for one in found}
    return [[one.replica_id.unique_id for one in group] for group in found]


async def replicas_of(world: World) -> list[RunningReplica]:
    maker = world.pool.chooser
    assert isinstance(maker, UserChooser)
    await until(lambda: maker._router)
    assert maker._router is not None
    return list(maker._router.curr_replicas.values())


def test_a_pending_request_has_its_facts() -> None:
    async def main() -> None:
        request = asked("m")
        assert (request.args, request.kwargs, request.resolved) == ([1], {"key": 2}, True)
        assert request.created_at > 0 and request.routing_context.tried_same_node is False
        told = request.metadata
        assert (told.request_id, told.internal_request_id, told.call_method) == ("r", "i", "__call__")
        assert (told.route, told.app_name, told.session_id, told.is_streaming) == ("", "", "", False)
        assert told.multiplexed_model_id == "m" and not request.future.done()

    run(main)


def test_what_a_router_sees_of_a_call_and_when_it_is_told() -> None:
    told: list[tuple[Any, ...]] = []

    class Telling(Nearest):
        async def choose_replicas(
            self, candidate_replicas: list[RunningReplica], pending_request: Any = None
        ) -> Any:
            metadata = pending_request.metadata
            told.append(
                (metadata.request_id, metadata.app_name, pending_request.args, pending_request.kwargs)
            )
            return [candidate_replicas]

        def on_send_request(self, replica_id: ReplicaID) -> None:
            told.append(("send", replica_id.unique_id))

        def on_request_routed(
            self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any = None
        ) -> None:
            told.append(("routed", replica_id.unique_id, result))

        def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
            told.append(("completed", replica_id.unique_id))

        def on_new_queue_len_info(self, replica_id: ReplicaID, num_ongoing_requests: int) -> None:
            told.append(("length", replica_id.unique_id, num_ongoing_requests))

        def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
            super().on_replica_actor_died(replica_id)
            told.append(("died", replica_id.unique_id))

    async def main() -> None:
        world = World(Nearest, "a")
        maker = world.pool.chooser
        assert isinstance(maker, UserChooser)
        await until(lambda: maker._router)
        router = maker._router = Telling(deployment_id=DEPLOYMENT)
        assert router.app_name == "app"
        world.publish("a")
        call = world.submit("one")
        await until(lambda: world.sent("a"))
        assert told[0] == ("one", "app", ["one"], {"key": 1})
        assert ("send", "a") in told and ("routed", "a", None) in told
        world.finish("a")
        await until(lambda: ("completed", "a") in told)
        assert any(one[:2] == ("length", "a") for one in told)
        world.publish("b")
        assert ("died", "a") in told and call.error is None
        await world.close()

    run(main)


def test_near_replicas_first() -> None:
    async def main() -> None:
        world = World(Nearest, "abc")
        replicas = await replicas_of(world)
        near = Nearest(
            deployment_id=DEPLOYMENT, self_node_id=replicas[0].node_id, prefer_local_node_routing=True
        )
        near.update_replicas(replicas)
        assert names(near.rank_replicas_via_locality(replicas)) == [["a", "b", "c"], [], []]
        request = asked()
        assert names(near.apply_locality_routing(request)) == {"a", "b", "c"}
        assert request.routing_context.tried_same_node and not request.routing_context.should_backoff
        near.apply_locality_routing(request)
        assert request.routing_context.should_backoff, "the second time there is nothing nearer"
        elsewhere = Nearest(deployment_id=DEPLOYMENT, self_node_id="another")
        elsewhere.update_replicas(replicas)
        assert names(elsewhere.rank_replicas_via_locality(replicas)) == [[], [], ["a", "b", "c"]]
        assert names(elsewhere.apply_locality_routing()) == {"a", "b", "c"}
        await world.close()

    run(main)


def test_replicas_with_the_model_first(monkeypatch: Any) -> None:
    async def main() -> None:
        world = World(Nearest, "abc")
        replicas = await replicas_of(world)
        world.pool.targets[0].on_report(ReplicaReport(["m"], 2))
        world.pool.targets[1].on_report(ReplicaReport(["other"], 2))
        router = Nearest(deployment_id=DEPLOYMENT)
        router.update_replicas(replicas)
        assert names(router.rank_replicas_via_multiplex(replicas, "m")) == [["a"], ["c"], ["b"]]
        request = asked("m")
        assert names(router.apply_multiplex_routing(request)) == {"a"}
        assert names(router.apply_multiplex_routing(asked("new"))) == {"c"}, "no one has it: fewest models"
        monkeypatch.setattr(router_mixins, "MATCHING_TIMEOUT_S", 0.0)
        assert names(router.apply_multiplex_routing(request)) == {"c"}
        assert names(router.apply_multiplex_routing(request)) == {"a", "b", "c"}
        await world.close()

    run(main)
