"""The controller cannot write its state: who deploys is told why, requests go on, and so does all when it can again."""

from __future__ import annotations

import asyncio
import json
import resource

from tests.decided import application
from tests.fault.instance import Instance, serving
from tests.fault.ledger import Ledger

from eagleray.rpc.client import Client
from eagleray.wire.control import Accepted, Deploy, Empty, StatusReply


def test_requests_go_on_while_nothing_can_be_stored() -> None:
    with serving() as instance:
        ledger = Ledger(instance.host, instance.port)
        replicas = instance.pids("replica")
        asyncio.run(_fill_and_free(instance, ledger))

        ledger.check()
        assert ledger.failures() == []
        assert instance.pids("replica") == replicas


async def _fill_and_free(instance: Instance, ledger: Ledger) -> None:
    [runtime_dir] = instance.runtime_dirs()
    client = await Client.connect(f"unix:{runtime_dir}/controller.sock")
    controller = instance.pid("controller")
    former = resource.prlimit(controller, resource.RLIMIT_FSIZE)
    try:
        async with ledger.running():
            await ledger.wait_answers(100)
            # As a full disk: no file of this process grows beyond its first byte.
            resource.prlimit(controller, resource.RLIMIT_FSIZE, (1, former[1]))
            error = await _deploy(client)
            assert "Failed to write the state in" in error and "state.db" in error
            assert "more" not in await _applications(client), "nothing of it has happened"
            await ledger.wait_answers(100)
            resource.prlimit(controller, resource.RLIMIT_FSIZE, former)
            assert await _deploy(client) == ""
            assert "more" in await _applications(client)
            await ledger.wait_answers(100)
    finally:
        client.close()
    assert instance.pid("controller") == controller


async def _deploy(client: Client) -> str:
    spec = application("more", "/more")
    accepted = await client.request("deploy", Deploy(specs=[spec.encode()]), Accepted, timeout_s=60)
    return accepted.error


async def _applications(client: Client) -> list[str]:
    reply = await client.request("status", Empty(), StatusReply, timeout_s=60)
    return list(json.loads(reply.status)["applications"])
