"""The limit of those who wait: for all routers together, exact, and with a word on when to come again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eagleray.base.errors import BackPressureError, DeploymentUnavailableError, EaglerayError
from eagleray.routing.admission import Limit, unavailable
from eagleray.routing.call import DONE, QUEUED, RoutedCall
from eagleray.routing.table import DeploymentEntry
from eagleray.routing.waiting import PATIENCE_S, Patience, Waiting
from eagleray.wire.messages import CallHead, CallKind


class SharedBoard:
    """The counts of this router, and of others as the test says."""

    def __init__(self) -> None:
        self.own = 0
        self.others = 0
        self.dead = 0

    def add(self, delta: int) -> None:
        self.own += delta

    def total(self) -> int:
        return self.own + self.others + self.dead

    def clear_dead(self) -> None:
        self.dead = 0

    def close(self) -> None:
        self.own = 0


class Line:
    """Calls that come one after another, as at a pool without replicas."""

    def __init__(self, board: SharedBoard | None, entry: DeploymentEntry) -> None:
        self.now = 100.0
        self.waiting = Waiting()
        self.limit = Limit(lambda: board, lambda: self.now)
        self.entry = entry
        self.limit.update(entry, self.waiting)

    def come(self) -> EaglerayError | None:
        call = RoutedCall("app#Model", CallHead(CallKind.PYTHON))
        call.state, call.line, call.since = QUEUED, "", self.now
        self.waiting.add(call)
        refused = self.limit.refusal(self.entry, self.waiting, self.waiting.count)
        if refused is not None:
            self.waiting.undo(call)
        return refused

    def go(self) -> None:
        (head,) = self.waiting.heads()
        self.waiting.take(head)

    def retry_after_s(self) -> float | None:
        refused = self.come()
        assert isinstance(refused, BackPressureError)
        return refused.retry_after_s


def entry(max_queued: int = -1, retry_after_s: float | None = None, failed: str = "") -> DeploymentEntry:
    return DeploymentEntry("app", "Model", (), max_queued, failed, backpressure_retry_after_s=retry_after_s)


@pytest.fixture
def board() -> Iterator[SharedBoard]:
    board = SharedBoard()
    yield board
    assert board.own == 0


def test_the_limit_holds_for_all_routers_together(board: SharedBoard) -> None:
    line = Line(board, entry(4))
    board.others = 2
    assert line.come() is None and line.come() is None
    refused = line.come()
    assert isinstance(refused, BackPressureError)
    assert (refused.num_queued_requests, refused.max_queued_requests) == (4, 4)
    assert line.waiting.count == board.own == 2
    board.others, board.dead = 1, 1
    assert line.come() is None, "the dead do not count"
    for _ in range(3):
        line.go()


def test_a_limit_that_comes_later_counts_who_waits_already(board: SharedBoard) -> None:
    line = Line(board, entry())
    assert line.come() is None and board.own == 0
    line.entry = entry(1)
    line.limit.update(line.entry, line.waiting)
    assert board.own == 1
    assert isinstance(line.come(), BackPressureError)
    for call in line.waiting.clear():
        call.state = DONE


def test_a_router_by_itself_counts_its_own() -> None:
    line = Line(None, entry(1))
    assert line.come() is None
    assert isinstance(line.come(), BackPressureError)
    line.go()
    assert line.come() is None


def test_a_failed_deployment_refuses_when_nobody_is_left() -> None:
    failed = entry(failed="it failed to deploy")
    assert isinstance(unavailable(failed, False), DeploymentUnavailableError)
    assert unavailable(failed, True) is None and unavailable(None, False) is None


def test_a_refused_caller_is_told_how_long_the_queue_takes() -> None:
    line = Line(None, entry(40))
    for _ in range(40):
        assert line.come() is None
    assert line.retry_after_s() == 1.0, "nothing is known yet"
    line.now += 2
    line.limit.replies += 16
    assert line.retry_after_s() == 5.0, "40 wait, 8 are answered a second"
    line.now += 2
    assert line.retry_after_s() == 1.0, "nothing was answered: nothing is known"
    line.now += 2
    line.limit.replies += 1
    assert line.retry_after_s() == 60.0
    line.entry = entry(40, retry_after_s=7.0)
    assert line.retry_after_s() == 7.0


class Alarm:
    def cancel(self) -> None: ...


@pytest.mark.parametrize("step_s", [0.0, 0.0001, 0.3, 0.5, 2.0])
def test_whoever_is_told_to_wait_for_a_replica_has_an_alarm(step_s: float) -> None:
    """However time goes on between two looks at the clock, and also when timers are early."""
    now, alarms = 100.0, 0
    told: list[bool] = []

    def clock() -> float:
        nonlocal now
        now += step_s
        return now

    def after(delay_s: float, callback: object) -> Alarm:
        nonlocal alarms
        alarms += 1
        return Alarm()

    patience = Patience(after, clock, lambda: told.append(patience.has(call)))
    call = RoutedCall("app#Model", CallHead(CallKind.PYTHON))
    call.state, call.line, call.since = QUEUED, "m", now
    while patience.has(call):
        before = alarms
        assert before
        now = max(now, call.since + PATIENCE_S - 0.0001 * (10 - before))
        patience._on_alarm()
        assert alarms == before + told[-1]
    assert now >= call.since + PATIENCE_S
