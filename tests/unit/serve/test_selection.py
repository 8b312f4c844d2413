"""A chosen replica's slot comes back in every case, and arguments go only to a replica that has taken the call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.property.test_pool import World

from eagleray.base.errors import ReplicaUnavailableError, RequestCancelledError
from eagleray.base.metrics import Registry
from eagleray.routing.metrics import RouterMetrics
from eagleray.routing.pool import Pool
from eagleray.routing.request_router import PendingRequest
from eagleray.routing.table import DeploymentEntry, ReplicaEntry
from eagleray.serve.context import NO_REQUEST, RequestContext
from eagleray.serve.response import VALUE, DeploymentResponse, HandleCall
from eagleray.serve.selection import ReplicaSelection, dispatch, reserve
from eagleray.wire import codec
from eagleray.wire.frames import MAX_CHUNK
from eagleray.wire.messages import REJECTED, CallHead, CallKind, ErrorHead, ReplyHead


class Carrier:
    """What a call needs of its runtime, on one loop."""

    in_process = False
    take = None

    def __init__(self, *replicas: str) -> None:
        self.world = World()
        self.pool = Pool("app#d", self.world, lambda: self.world.now)
        entries = tuple(ReplicaEntry(name, f"unix:/{name}", 1) for name in replicas)
        self.pool.update(DeploymentEntry("app", "d", entries))
        self.loop = asyncio.get_running_loop()
        self.submit_here = self.pool.submit

    def post(self, function: Callable[..., object], *args: Any) -> None:
        function(*args)

    def resolved(self, key: str, seconds: float) -> None:
        assert key == "app#d" and seconds >= 0

    def reserve(self, parent: RequestContext = NO_REQUEST) -> Any:
        head = CallHead(CallKind.PYTHON, request_id="r")
        return reserve(self, "app#d", head, parent, (), {})  # type: ignore[arg-type]

    async def chosen(self) -> tuple[Any, ReplicaSelection]:
        call = self.reserve()
        choosing = asyncio.ensure_future(call.chosen())
        await asyncio.sleep(0)
        call.on_accepted()
        return call, await choosing

    def died(self, number: int) -> None:
        link = self.world.links[number]
        link.closed = True
        lost, link.open = link.open, []
        for call in lost:
            call.on_error(ErrorHead("replica_died"), b"")

    def check(self) -> None:
        assert [target.in_flight for target in self.pool.targets] == [0] * len(self.pool.targets)
        assert self.pool.queued == 0


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    def run() -> None:
        asyncio.run(test())

    run.__name__ = test.__name__
    return run


@in_a_loop
async def test_arguments_go_to_the_replica_that_keeps_the_slot() -> None:
    carrier = Carrier("a", "b")
    call, selection = await carrier.chosen()
    (link,) = [link for link in carrier.world.links if link.open]
    assert selection.replica_id == link.target.entry.replica_id  # type: ignore[attr-defined]
    assert carrier.pool.ongoing == 1 and not link.sent
    value = bytes(3 * MAX_CHUNK)
    response: Any = dispatch("app#d", selection, (value,), {"key": 1})
    assert [end for _, _, end in link.sent] == [False] * (len(link.sent) - 1) + [True]
    assert all(len(chunk) <= MAX_CHUNK for _, chunk, _ in link.sent)
    assert codec.load_call(b"".join(chunk for _, chunk, _ in link.sent)) == ((value,), {"key": 1})
    call.leave()
    assert not link.cancelled, "leaving the block does not touch a call that was dispatched"
    call.on_reply(ReplyHead(0), codec.dump_value("done"), True)
    assert await response == "done"
    carrier.check()


@in_a_loop
async def test_leaving_the_block_gives_the_slot_back() -> None:
    carrier = Carrier("a")
    call, selection = await carrier.chosen()
    call.leave()
    link = carrier.world.links[0]
    assert id(call) in link.cancelled
    call.on_error(ErrorHead("cancelled"), b"")
    carrier.check()
    with pytest.raises(RuntimeError, match="not reserved any more"):
        dispatch("app#d", selection, (), {})


@in_a_loop
async def test_a_selection_is_good_for_one_call_of_its_deployment() -> None:
    carrier = Carrier("a")
    _, selection = await carrier.chosen()
    with pytest.raises(ValueError, match="chosen for"):
        dispatch("app#other", selection, (), {})
    dispatch("app#d", selection, (), {})
    with pytest.raises(RuntimeError, match="already been dispatched"):
        dispatch("app#d", selection, (), {})


@in_a_loop
async def test_before_it_is_taken_refusal_and_death_lead_to_another_replica() -> None:
    carrier = Carrier("a", "b")
    call = carrier.reserve()
    choosing = asyncio.ensure_future(call.chosen())
    await asyncio.sleep(0)
    first = next(number for number, link in enumerate(carrier.world.links) if link.open)
    second = carrier.world.links[1 - first]
    carrier.died(first)
    assert second.open == [call]
    second.open.remove(call)
    call.on_error(ErrorHead(REJECTED, "", 1), b"")
    assert carrier.pool.queued == 1
    second.target.on_room(second)  # type: ignore[attr-defined]
    call.on_accepted()
    selection = await choosing
    assert selection.replica_id == second.target.entry.replica_id  # type: ignore[attr-defined]
    call.leave()
    call.on_error(ErrorHead("cancelled"), b"")
    carrier.check()


@in_a_loop
async def test_a_replica_that_dies_while_it_is_held_has_run_nothing() -> None:
    carrier = Carrier("a")
    call, selection = await carrier.chosen()
    carrier.died(0)
    response: Any = dispatch("app#d", selection, (), {})
    with pytest.raises(ReplicaUnavailableError, match="Replica a "):
        await response
    call.leave()
    carrier.check()


@in_a_loop
async def test_who_gives_up_choosing_leaves_nothing_behind() -> None:
    carrier = Carrier("a")
    holder, _ = await carrier.chosen()
    waiting, reserved = carrier.reserve(), carrier.reserve()
    choosing = [asyncio.ensure_future(call.chosen()) for call in (waiting, reserved)]
    await asyncio.sleep(0)
    assert carrier.pool.queued == 2
    for task in choosing:
        task.cancel()
    await asyncio.wait(choosing)
    for call in (waiting, reserved):
        call.leave()
    assert carrier.pool.queued == 0
    holder.leave()
    holder.on_error(ErrorHead("cancelled"), b"")
    carrier.check()


@in_a_loop
async def test_arguments_that_fail_give_the_slot_back() -> None:
    carrier = Carrier("a")
    call, selection = await carrier.chosen()
    with pytest.raises(Exception, match="argument 0"):
        dispatch("app#d", selection, (asyncio.get_running_loop(),), {})
    upstream = HandleCall(carrier, "app#u", CallHead(CallKind.PYTHON), b"", NO_REQUEST)  # type: ignore[arg-type]
    response: Any = dispatch("app#d", selection, (DeploymentResponse(upstream),), {})
    upstream.on_failed(ReplicaUnavailableError("u"))
    with pytest.raises(ReplicaUnavailableError, match="Replica u "):
        await response
    assert id(call) in carrier.world.links[0].cancelled
    call.on_error(ErrorHead("cancelled"), b"")
    carrier.check()


@in_a_loop
async def test_arguments_may_be_responses() -> None:
    carrier = Carrier("a")
    call, selection = await carrier.chosen()
    upstream = HandleCall(carrier, "app#u", CallHead(CallKind.PYTHON), b"", NO_REQUEST)  # type: ignore[arg-type]
    dispatch("app#d", selection, (DeploymentResponse(upstream),), {})
    link = carrier.world.links[0]
    assert not link.sent
    upstream.settle(VALUE, 7)
    assert codec.load_call(b"".join(chunk for _, chunk, _ in link.sent)) == ((7,), {})
    call.on_reply(ReplyHead(0), codec.dump_value(None), True)
    carrier.check()


@in_a_loop
async def test_it_ends_with_the_request_that_made_it() -> None:
    carrier = Carrier("a")
    parent = RequestContext("r", children=set())
    call = carrier.reserve(parent)
    choosing = asyncio.ensure_future(call.chosen())
    await asyncio.sleep(0)
    call.on_accepted()
    selection = await choosing
    parent.cancel_children()
    response: Any = dispatch("app#d", selection, (), {})
    with pytest.raises(RequestCancelledError):
        await response
    call.on_error(ErrorHead("cancelled"), b"")
    carrier.check()
    assert not parent.children


@in_a_loop
async def test_a_router_of_the_users_sees_what_the_replica_is_chosen_for() -> None:
    carrier: Any = Carrier("a")
    call = reserve(carrier, "app#d", CallHead(CallKind.PYTHON), NO_REQUEST, ("near",), {"key": 1})
    pending = PendingRequest.of(call)
    assert (pending.args, pending.kwargs) == (["near"], {"key": 1})


@in_a_loop
async def test_the_time_that_a_slot_was_kept_is_not_the_replicas() -> None:
    carrier = Carrier("a", "b")
    call, selection = await carrier.chosen()
    carrier.world.now += 100.0
    dispatch("app#d", selection, (), {})
    assert call.sent_at == carrier.world.now


@in_a_loop
async def test_slots_that_wait_for_arguments_are_counted() -> None:
    carrier = Carrier("a", "b")
    carrier.pool.metrics = metrics = RouterMetrics(Registry(), ("DRIVER", ""), lambda: 0.0).of(carrier.pool)
    left, _ = await carrier.chosen()
    call, selection = await carrier.chosen()
    assert metrics.reserved == 2
    dispatch("app#d", selection, (1,), {})
    assert metrics.reserved == 1
    left.leave()
    assert metrics.reserved == 0
    call.on_reply(ReplyHead(0), codec.dump_value("done"), True)
    assert metrics.reserved == 0
