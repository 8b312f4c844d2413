"""A router's subscription on virtual time, to a controller of three lines."""

from __future__ import annotations

import asyncio
import random

from eagleray.routing.router import Router
from eagleray.routing.subscription import Subscription
from eagleray.routing.table import DeploymentEntry, ReplicaEntry, RoutingTable, encode_table
from eagleray.rpc.control import ControlMethods
from eagleray.rpc.server import Incoming, Server, ServerConnection
from eagleray.testing.simulation.loop import VirtualLoop
from eagleray.testing.simulation.network import Network, Process
from eagleray.wire.control import Ack, Empty, decode


def table(version: int) -> RoutingTable:
    replica = ReplicaEntry(f"replica{version}", f"unix:/replica{version}", max_ongoing=1)
    return RoutingTable(version=version, deployments={"a#b": DeploymentEntry("a", "b", (replica,))})


async def follow_tables_of_stopped_replicas() -> None:
    loop = asyncio.get_running_loop()
    network = Network(random.Random(1))
    controller, replicas, me = (Process(network, name) for name in ("controller", "replicas", "me"))
    acknowledged: list[int] = []

    async def watch(body: bytes, incoming: Incoming) -> None:
        for version in range(1, 11):
            incoming.send(encode_table(table(version)))
        await loop.create_future()

    async def ack(body: bytes, incoming: Incoming) -> Empty:
        acknowledged.append(decode(body, Ack).version)
        return Empty()

    methods = ControlMethods({"watch": watch, "ack": ack})
    server = Server(methods.dispatch)
    controller.listen("/controller", lambda: ServerConnection(server, methods.dispatch, None))
    for version in range(1, 11):
        replicas.listen(f"/replica{version}", lambda: ServerConnection(server, methods.dispatch, None))
    replicas.stop()
    router = Router(me.connect, clock=loop.time)
    router.open("a#b")
    subscription = Subscription(router, "unix:/controller", "me", me.connect)
    begun = loop.time()
    await subscription.start(wait=False)
    async with asyncio.timeout(60):
        while router.table.version < 10:  # noqa: ASYNC110  # virtual time
            await asyncio.sleep(0.01)
        assert loop.time() - begun < 1.9, "no table waited for the replicas of another one"
        while acknowledged[-1:] != [10]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await subscription.close()
    await router.close()
    await methods.close()
    for process in (me, controller, replicas):
        process.vanish()
    await asyncio.sleep(1.0)


def test_tables_do_not_queue_behind_replicas_that_do_not_answer() -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(follow_tables_of_stopped_replicas())
    finally:
        loop.close()
