"""Requests that wait and cannot be in time are refused before a replica hears of them."""

from __future__ import annotations

import pytest
from tests.property.test_pool import Call, World

from eagleray.base.errors import EaglerayError, RequestTimeoutError
from eagleray.routing.pool import Pool
from eagleray.routing.table import DeploymentEntry, ReplicaEntry
from eagleray.wire.messages import ReplyHead

SERVICE_S = 0.2


class Timed(Call):
    """A call with a deadline, which keeps why it failed."""

    __slots__ = ("error",)

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self.head.deadline = deadline
        self.error: EaglerayError | None = None

    def on_failed(self, error: EaglerayError) -> None:
        super().on_failed(error)
        self.error = error


class OneAtATime:
    """A pool whose only replica runs one call at once and takes SERVICE_S for it."""

    def __init__(self) -> None:
        self.world = World()
        self.pool = Pool("app#d", self.world, lambda: self.world.now)
        self.pool.update(DeploymentEntry("app", "d", (ReplicaEntry("r", "unix:/r", 1),)))
        self.sent: list[Timed] = []

    def submit(self, within_s: float) -> Timed:
        call = Timed(self.world.now + within_s)
        self.pool.submit(call)
        return call

    def serve_one(self) -> None:
        self.world.pass_time(SERVICE_S)
        (call,) = self.world.links[0].open
        self.world.links[0].open.clear()
        self.sent.append(call)
        call.on_reply(ReplyHead(), b"", True)


@pytest.fixture
def one() -> OneAtATime:
    return OneAtATime()


def test_a_passed_deadline(one: OneAtATime) -> None:
    first, late, early = one.submit(9), one.submit(SERVICE_S / 2), one.submit(9)
    one.serve_one()
    assert isinstance(late.error, RequestTimeoutError) and late.ends == 1
    one.serve_one()
    assert one.sent == [first, early] and not one.pool.queued


def test_a_deadline_that_cannot_be_met_any_more(one: OneAtATime) -> None:
    for _ in range(10):
        one.submit(9)
        one.serve_one()
    running, hopeless, possible = one.submit(9), one.submit(SERVICE_S * 1.5), one.submit(9)
    one.serve_one()
    # Half of the time that even the fastest answer took is left.
    assert isinstance(hopeless.error, RequestTimeoutError)
    one.serve_one()
    assert one.sent[-2:] == [running, possible]


def test_nothing_is_given_up_before_enough_is_known(one: OneAtATime) -> None:
    running, tight = one.submit(9), one.submit(SERVICE_S * 1.5)
    one.serve_one()
    assert tight.error is None
    one.serve_one()
    assert one.sent == [running, tight]
