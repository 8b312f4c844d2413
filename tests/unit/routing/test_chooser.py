"""A user's router at work on a pool without connections: order, failures, cancels, and counters that return to zero."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eagleray.base.errors import BackPressureError, EaglerayError
from eagleray.base.tasks import Tasks
from eagleray.routing import chooser
from eagleray.routing.call import QUEUED, RoutedCall
from eagleray.routing.chooser import UserChooser
from eagleray.routing.policies import Policy
from eagleray.routing.pool import Chooser, Pool
from eagleray.routing.request_router import PendingRequest, RequestRouter, RunningReplica
from eagleray.routing.router_mixins import FIFOMixin
from eagleray.routing.table import DeploymentEntry, ReplicaEntry, RouterEntry
from eagleray.routing.target import Target
from eagleray.wire import codec
from eagleray.wire.messages import REJECTED, CallHead, CallKind, ErrorHead, ReplicaReport, ReplyHead


class Link:
    """A connection that remembers what was sent."""

    def __init__(self) -> None:
        self.closed = False
        self.open: list[Call] = []

    def call(self, head: CallHead, body: bytes, *, end: bool, handler: Any) -> Any:
        self.open.append(handler)
        return None

    def close(self) -> None:
        self.closed = True


class Call(RoutedCall):
    __slots__ = ("error",)

    def __init__(self, name: str, model_id: str = "") -> None:
        head = CallHead(CallKind.PYTHON, request_id=name, multiplexed_model_id=model_id)
        super().__init__("app#d", head, codec.dump_call((name,), {"key": 1}))
        self.error: EaglerayError | None = None

    def on_failed(self, error: EaglerayError) -> None:
        self.error = error


class World:
    """A pool with a user's router, and its replicas."""

    def __init__(
        self, router: type, replicas: str = "ab", limit: int = 2, max_queued: int = -1, **kwargs: Any
    ) -> None:
        self.tasks = Tasks("test")
        self.links: dict[str, Link] = {}
        self.entry = RouterEntry(code=codec.dump_code(router), max_backoff_s=0.01)
        self.pool = Pool("app#d", self)
        self.limit, self.max_queued = limit, max_queued
        self.publish(replicas)

    def publish(self, replicas: str) -> None:
        entries = tuple(ReplicaEntry(name, f"unix:/{name}", self.limit) for name in replicas)
        self.pool.update(DeploymentEntry("app", "d", entries, self.max_queued, router=self.entry))

    def dial(self, target: Target) -> None:
        self.links[target.entry.replica_id] = Link()
        target.client = self.links[target.entry.replica_id]  # type: ignore[assignment]

    def missed(self, pool: Pool) -> None: ...

    def starved(self, pool: Pool) -> None: ...

    def open_board(self, key: str) -> None:
        return None

    def after(self, delay_s: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay_s, callback)

    def steer(self, pool: Pool, router: RouterEntry | None) -> tuple[Policy, Chooser | None]:
        return Policy(), UserChooser(pool, router, self.tasks) if router is not None else None

    def submit(self, name: str, model_id: str = "") -> Call:
        call = Call(name, model_id)
        self.pool.submit(call)
        return call

    def sent(self, replica: str) -> list[str]:
        return [call.head.request_id for call in self.links[replica].open]

    def finish(self, replica: str) -> None:
        link = self.links[replica]
        link.open.pop(0).on_reply(ReplyHead(len(link.open)), b"", True)

    async def close(self) -> None:
        self.pool.close(EaglerayError("the end"))
        await self.tasks.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


def run(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(main())  # type: ignore[arg-type]


class FirstOnly(RequestRouter):
    """Everything to the replica whose id comes first in the alphabet."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: Any = None
    ) -> Any:
        return [[min(candidate_replicas, key=lambda replica: replica.replica_id.unique_id)]]


class Picky(RequestRouter):
    """Each request to the replica that its argument names."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: Any = None
    ) -> Any:
        wanted = pending_request.args[0][0]
        assert pending_request.kwargs == {"key": 1}
        return [[replica for replica in candidate_replicas if replica.replica_id.unique_id == wanted]]


class FirstInOrder(FIFOMixin, FirstOnly):
    pass


class PickyInOrder(FIFOMixin, Picky):
    pass


def test_requests_go_where_their_arguments_say_and_do_not_wait_for_others() -> None:
    async def main() -> None:
        world = World(Picky)
        for name in ("a1", "a2", "a3", "b1"):
            world.submit(name)
        await until(lambda: world.sent("b"))
        assert world.sent("a") == ["a1", "a2"] and world.sent("b") == ["b1"]
        assert world.pool.queued == 1
        world.finish("a")
        await until(lambda: world.sent("a") == ["a2", "a3"])
        await world.close()

    run(main)


def test_requests_that_find_no_room_hold_up_nobody_however_many_they_are() -> None:
    async def main() -> None:
        world = World(Picky, limit=1)
        for number in range(200):
            world.submit(f"a{number}")
        await until(lambda: world.links["a"].open)
        world.submit("b-first")
        world.submit("b-second")
        await until(lambda: world.sent("b") == ["b-first"])
        world.finish("b")
        await until(lambda: world.sent("b") == ["b-second"])
        for _ in range(200):
            await until(lambda: world.links["a"].open)
            world.finish("a")
        await until(lambda: not world.pool.waiting.count)
        await world.close()

    run(main)


def test_with_fifo_the_oldest_one_gets_the_replica() -> None:
    async def main() -> None:
        world = World(PickyInOrder, limit=1)
        for name in ("a1", "a2", "b1"):
            world.submit(name)
        await until(lambda: world.sent("a") and world.sent("b"))
        assert world.sent("a") == ["a1"] and world.sent("b") == ["a2"]
        world.finish("b")
        await until(lambda: world.sent("b") == ["b1"])
        await world.close()

    run(main)


def test_a_cancelled_request_is_not_sent_and_a_refused_one_is_sent_again() -> None:
    async def main() -> None:
        world = World(FirstInOrder, "a", limit=1)
        first, second, third = (world.submit(name) for name in ("1", "2", "3"))
        await until(lambda: world.sent("a") == ["1"])
        second.cancel()
        world.links["a"].open.pop().on_error(ErrorHead(REJECTED, load=0), b"")
        assert first.state == QUEUED
        world.pool.targets[0].on_room(world.links["a"])  # type: ignore[arg-type]
        await until(lambda: world.sent("a") == ["1"])
        world.finish("a")
        await until(lambda: world.sent("a") == ["3"])
        world.finish("a")
        assert world.pool.queued == 0 and world.pool.targets[0].in_flight == 0
        assert third.error is None and second.error is not None
        await world.close()

    run(main)


class Nonsense(RequestRouter):
    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: Any = None
    ) -> Any:
        return [["a"]]


class Raises(RequestRouter):
    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: Any = None
    ) -> Any:
        raise SystemExit("no")


class CancelsItself(RequestRouter):
    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: Any = None
    ) -> Any:
        raise asyncio.CancelledError


class Hangs(RequestRouter):
    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: Any = None
    ) -> Any:
        await asyncio.Event().wait()


class BadHooks(FirstOnly):
    def on_request_routed(self, pending_request: PendingRequest, replica_id: Any, result: Any = None) -> None:
        raise RuntimeError("hook")

    on_request_completed = on_request_routed  # type: ignore[assignment]


class NotARouter:
    pass


@pytest.mark.parametrize("router", [Nonsense, Raises, CancelsItself, Hangs, BadHooks, NotARouter])
def test_a_router_that_fails_costs_no_request_and_is_told_of_once(
    router: type, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chooser, "_CHOICE_S", 0.01)

    async def main() -> None:
        world = World(router, limit=10)
        calls = [world.submit(str(number)) for number in range(8)]
        await until(lambda: len(world.sent("a")) + len(world.sent("b")) == 8)
        for name in "ab":
            while world.links[name].open:
                world.finish(name)
        assert all(call.error is None for call in calls)
        await world.close()

    run(main)
    assert caplog.text.count("This is said once.") == 1 and "Traceback" in caplog.text


def test_the_queue_limit_counts_what_replicas_have_no_room_for() -> None:
    async def main() -> None:
        world = World(FirstOnly, "a", limit=2, max_queued=1)
        calls = [world.submit(str(number)) for number in range(4)]
        assert [type(call.error) for call in calls] == [type(None)] * 3 + [BackPressureError]
        await world.close()
        assert all(call.error is not None or call.state != QUEUED for call in calls)

    run(main)


def test_the_router_sees_replicas_come_and_go_and_their_models() -> None:
    seen: list[set[str]] = []

    class Watching(FirstOnly):
        def update_replicas(self, replicas: list[RunningReplica]) -> None:
            super().update_replicas(replicas)
            seen.append({replica.replica_id.unique_id for replica in replicas})

    async def main() -> None:
        world = World(FirstOnly)
        maker = world.pool.chooser
        assert isinstance(maker, UserChooser)
        await until(lambda: maker._router)
        router = Watching(deployment_id=maker._deployment)
        maker._router = router
        world.publish("abc")
        assert seen[-1] == {"a", "b", "c"}
        world.publish("ac")
        assert seen[-1] == {"a", "c"}
        world.pool.targets[0].on_report(ReplicaReport(["m"], 2, {"cost": 3}, {"zone": "x"}))
        replica = next(one for one in router.curr_replicas.values() if one.replica_id.unique_id == "a")
        assert replica.multiplexed_model_ids == {"m"} and replica.routing_stats == {"cost": 3}
        assert replica.replica_metadata == {"zone": "x"} and await replica.get_queue_len() == 0
        assert router.replica_queue_len_cache.get(replica.replica_id) == 0
        assert router.select_available_replicas([replica]) == [replica]
        await world.close()

    run(main)


def test_calls_wait_through_a_change_of_the_router() -> None:
    async def main() -> None:
        world = World(FirstOnly, "", limit=5)
        calls = [world.submit(str(number)) for number in range(5)]
        world.entry = RouterEntry(code=codec.dump_code(Picky))
        world.publish("")
        world.entry = None  # type: ignore[assignment]
        world.publish("a")
        assert world.sent("a") == [call.head.request_id for call in calls], "oldest first"
        await world.close()

    run(main)


class Random(RequestRouter):
    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: Any = None
    ) -> Any:
        for _ in range(random.randrange(3)):
            await asyncio.sleep(0)
        return [random.sample(candidate_replicas, 1)]


class RandomInOrder(FIFOMixin, Random):
    pass


@pytest.mark.parametrize("router", [Random, RandomInOrder])
@pytest.mark.parametrize("seed", range(5))
def test_counters_return_to_zero_under_any_mix(router: type, seed: int) -> None:
    random.seed(seed)

    async def main() -> None:
        world = World(router, "abc")
        calls: list[Call] = []
        for step in range(300):
            choice = random.random()
            busy = [name for name, link in world.links.items() if link.open]
            if choice < 0.5:
                calls.append(world.submit(str(step)))
            elif choice < 0.6 and calls:
                random.choice(calls).cancel()
            elif choice < 0.7 and busy:
                name = random.choice(busy)
                world.links[name].open.pop().on_error(ErrorHead(REJECTED, load=0), b"")
                next(t for t in world.pool.targets if t.entry.replica_id == name).on_room(None)  # type: ignore[arg-type]
            elif busy:
                world.finish(random.choice(busy))
            if step % 3 == 0:
                await asyncio.sleep(0)
        await until(lambda: drained(world))
        assert world.pool.queued == 0
        assert all(target.in_flight == 0 for target in world.pool.targets)
        maker = world.pool.chooser
        assert isinstance(maker, UserChooser) and not maker._pending
        await world.close()

    run(main)


def drained(world: World) -> bool:
    for name in world.links:
        while world.links[name].open:
            world.finish(name)
    return not world.pool.queued
