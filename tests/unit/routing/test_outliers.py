"""Passive outlier ejection in virtual time: who is judged, for how long, and how many at most."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eagleray.base.errors import RequestTimeoutError
from eagleray.routing.call import RoutedCall
from eagleray.routing.outliers import BASE_S, IN, LONGEST_S, OUT, PROBING, Outliers
from eagleray.routing.record import Record
from eagleray.wire.messages import CallHead, CallKind


def outliers(names: str) -> Outliers:
    judge = Outliers()
    judge.keep(names)
    return judge


def fail(judge: Outliers, name: str, times: int, now: float, *, own_code: bool = False) -> None:
    for _ in range(times):
        judge.failed(name, now, own_code=own_code)


def succeed(judge: Outliers, names: str, times: int, now: float) -> None:
    for name in names:
        for _ in range(times):
            judge.succeeded(name, now)


def test_a_replica_that_only_times_out_is_out_and_its_peers_are_not() -> None:
    judge = outliers("abcd")
    judge.failed("a", 100.0, own_code=False)
    succeed(judge, "bcd", 50, 100.0)
    fail(judge, "a", 4, 101.0)
    assert [judge.state(name) for name in "abcd"] == [OUT, IN, IN, IN]
    assert judge.until("a") == 101.0 + BASE_S


def test_a_few_failures_among_many_calls_are_life() -> None:
    judge = outliers("ab")
    judge.failed("a", 100.0, own_code=False)
    for now in range(101, 110):
        succeed(judge, "ab", 50, now)
        judge.failed("a", now, own_code=False)
    assert judge.state("a") == IN


def test_when_all_fail_nobody_is_an_outlier() -> None:
    judge = outliers("abcd")
    for _ in range(30):
        for name in "abcd":
            judge.failed(name, 100.0, own_code=False)
    assert [judge.state(name) for name in "abcd"] == [IN] * 4


@pytest.mark.parametrize(("replicas", "most"), [("a", 0), ("ab", 1), ("abc", 1), ("abcd", 2), ("abcde", 2)])
def test_never_are_more_than_half_out(replicas: str, most: int) -> None:
    judge = outliers(replicas)
    judge.failed(replicas[0], 100.0, own_code=False)
    succeed(judge, replicas, 100, 100.0)
    for name in replicas:
        fail(judge, name, 300, 101.0)
    assert sum(judge.state(name) == OUT for name in replicas) <= most


def test_what_user_code_raises_counts_only_when_it_is_most_of_its_calls_and_far_more_than_of_the_peers() -> (
    None
):
    judge = outliers("abc")
    judge.failed("a", 100.0, own_code=True)
    succeed(judge, "abc", 20, 100.0)
    fail(judge, "a", 9, 100.0, own_code=True)
    assert judge.state("a") == IN, "a third of its calls"
    fail(judge, "a", 12, 100.0, own_code=True)
    assert judge.state("a") == OUT


def test_user_code_that_fails_everywhere_is_the_application_s_business() -> None:
    judge = outliers("abc")
    for _ in range(50):
        for name in "abc":
            judge.failed(name, 100.0, own_code=True)
    assert [judge.state(name) for name in "abc"] == [IN] * 3


def ejected(now: float = 100.0) -> Outliers:
    judge = outliers("abc")
    judge.failed("a", now, own_code=False)
    succeed(judge, "bc", 20, now)
    fail(judge, "a", 4, now)
    assert judge.state("a") == OUT
    return judge


def test_it_is_probed_and_comes_back_after_three_successes() -> None:
    judge = ejected()
    assert not judge.probe("a", 104.9)
    assert judge.probe("a", 105.0) and judge.state("a") == PROBING
    succeed(judge, "a", 2, 105.1)
    assert judge.state("a") == PROBING
    succeed(judge, "a", 1, 105.2)
    assert judge.state("a") == IN


def test_each_time_it_is_out_for_twice_as_long_up_to_a_limit_and_a_good_while_makes_up_for_it() -> None:
    judge = ejected()
    now, lengths = 100.0, []
    for _ in range(9):
        now = judge.until("a")
        judge.probe("a", now)
        judge.failed("a", now, own_code=False)
        lengths.append(judge.until("a") - now)
    assert lengths == [min(LONGEST_S, BASE_S * 2**n) for n in range(1, 10)]
    now = judge.until("a")
    judge.probe("a", now)
    succeed(judge, "a", 3, now)
    now += 3 * LONGEST_S
    judge.failed("a", now, own_code=False)
    succeed(judge, "bc", 20, now)
    fail(judge, "a", 4, now)
    assert judge.until("a") - now == BASE_S


def test_an_exception_of_user_code_is_a_sign_of_life_for_one_that_did_not_answer() -> None:
    judge = ejected()
    judge.probe("a", 105.0)
    fail(judge, "a", 3, 105.0, own_code=True)
    assert judge.state("a") == IN


def test_old_failures_are_forgotten_and_counting_stops() -> None:
    judge = outliers("ab")
    fail(judge, "a", 4, 100.0)
    succeed(judge, "b", 20, 100.0)
    judge.failed("a", 150.0, own_code=False)
    assert judge.state("a") == IN
    assert judge.watching
    succeed(judge, "ab", 1, 200.0)
    assert not judge.watching


def test_when_the_healthy_ones_leave_those_that_are_out_come_back() -> None:
    judge = ejected()
    judge.keep("a")
    assert judge.state("a") == IN


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcde"),
            st.sampled_from(["ok", "fail", "own", "probe", "leave", "join"]),
            st.sampled_from([0.0, 0.1, 5.0, 40.0, 400.0]),
        ),
        max_size=200,
    )
)
def test_whatever_happens_at_most_half_of_those_that_are_there_are_out(
    events: list[tuple[str, str, float]],
) -> None:
    judge, present, now = Outliers(), set("abc"), 1000.0
    judge.keep(present)
    for name, event, seconds in events:
        now += seconds
        if event == "join":
            present.add(name)
        elif event == "leave":
            present.discard(name)
        elif name in present:
            for _ in range(6):
                if event == "ok":
                    judge.succeeded(name, now)
                elif event == "probe":
                    judge.probe(name, now)
                else:
                    judge.failed(name, now, own_code=event == "own")
        judge.keep(present)
        assert sum(judge.state(one) != IN for one in present) <= len(present) // 2


def test_a_change_is_told_once() -> None:
    told: list[str] = []
    judge = Outliers(told.append)
    judge.keep("abc")
    for now in itertools.repeat(1.0, 20):
        judge.failed("a", now, own_code=False)
        judge.succeeded("b", now)
    assert told == ["a"]


@pytest.mark.parametrize(("waited_s", "state"), [(0.02, IN), (0.2, OUT)])
def test_a_deadline_that_was_too_short_for_anybody_blames_nobody(waited_s: float, state: int) -> None:
    now = 100.0
    judge = outliers("abcd")
    record = Record("a", judge, lambda: now)
    record.latency_s = 0.05
    judge.failed("a", now, own_code=False)
    succeed(judge, "bcd", 50, now)
    for _ in range(12):
        call = RoutedCall("app#D", CallHead(CallKind.PYTHON, "run"), b"")
        call.sent_at = now - waited_s
        record.given_up(call, RequestTimeoutError("late"))
    assert judge.state("a") == state
