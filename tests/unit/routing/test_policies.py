"""Which replica a policy picks: loads, latencies, turns, sessions, models, nodes."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eagleray.base.errors import ConfigError
from eagleray.routing.call import RoutedCall
from eagleray.routing.outliers import Outliers
from eagleray.routing.policies import (
    ConsistentHash,
    LocalityAware,
    Policy,
    RoundRobin,
    make_policy,
    power_of_two,
)
from eagleray.routing.record import Record
from eagleray.routing.table import ReplicaEntry
from eagleray.routing.target import Target
from eagleray.wire.messages import CallHead, CallKind, ReplicaReport

_ticks = itertools.count(1.0)


def _clock() -> float:
    """Passes with each look."""
    return next(_ticks)


class Open:
    closed = False


def target(name: str, load: int = 0, latency_s: float = 0.0, room: bool = True, **entry: Any) -> Target:
    made = Target(None, ReplicaEntry(name, f"unix:/{name}", 10, **entry))  # type: ignore[arg-type]
    made.client = Open()  # type: ignore[assignment]
    made.in_flight = load
    made.full = not room
    made.record = Record(name, Outliers(), _clock)
    made.record.latency_s = latency_s
    return made


def with_models(name: str, models: str, free: int = 1, **options: Any) -> Target:
    made = target(name, **options)
    assert made.record is not None
    made.record.take(ReplicaReport(list(models), free))
    return made


def call(model_id: str = "", session_id: str = "") -> RoutedCall:
    return RoutedCall("a#d", CallHead(CallKind.PYTHON, multiplexed_model_id=model_id, session_id=session_id))


def name_of(found: Target | None) -> str:
    return found.entry.replica_id if found is not None else ""


# ---- power of two ------------------------------------------------------------------------------------------------


def test_the_less_loaded_one_is_taken() -> None:
    assert {name_of(power_of_two([target("a", 2), target("b", 1)])) for _ in range(50)} == {"b"}


def test_latency_decides_between_equals_but_the_slower_one_is_looked_at_now_and_then() -> None:
    targets = [target("slow", latency_s=0.08), target("fast", latency_s=0.02)]
    found = Counter(name_of(power_of_two(targets)) for _ in range(2000))
    assert 50 < found["slow"] < 250


@pytest.mark.parametrize("latencies", [(0.0021, 0.002), (0.0004, 0.0001), (0.0, 0.5), (0.5, 0.0)])
def test_noise_and_what_is_unknown_decide_nothing(latencies: tuple[float, float]) -> None:
    targets = [target("a", latency_s=latencies[0]), target("b", latency_s=latencies[1])]
    found = Counter(name_of(power_of_two(targets)) for _ in range(400))
    assert min(found["a"], found["b"]) > 100


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=5))
def test_somebody_with_room_is_always_found(states: list[tuple[int, bool]]) -> None:
    targets = [target(str(number), load, room=room) for number, (load, room) in enumerate(states)]
    found = power_of_two(targets)
    assert (found is not None and found.has_room) == any(room for _, room in states)


def test_latency_is_an_average_that_falls_faster_than_it_rises_and_leaves_out_the_cold_start() -> None:
    now = 0.0
    record = Record("a", Outliers(), lambda: now)

    def answer(seconds: float, times: int, status: int = 0) -> None:
        nonlocal now
        for _ in range(times):
            made = call()
            record.sent(made)
            now += seconds
            record.answered(made, status)

    answer(0.5, 8)
    assert record.latency_s == 0
    answer(0.1, 20)
    assert record.latency_s == pytest.approx(0.1, rel=0.01)
    answer(0.2, 3)
    risen = record.latency_s
    assert 0.11 < risen < 0.14
    answer(0.1, 3)
    assert record.latency_s - 0.1 < 0.4 * (risen - 0.1)
    before = record.latency_s
    answer(0.0, 5, status=500)
    assert record.latency_s == before, "failing fast is not being fast"


# ---- round robin -------------------------------------------------------------------------------------------------


def test_each_in_turn_and_full_ones_are_passed_over() -> None:
    policy = RoundRobin()
    a, b, c = target("a"), target("b"), target("c")
    assert [name_of(policy.pick(call(), [c, a, b], True)) for _ in range(5)] == list("abcab")
    c.full = True
    assert [name_of(policy.pick(call(), [c, a, b], True)) for _ in range(3)] == list("aba")
    assert [name_of(policy.pick(call(), [c, b], True)) for _ in range(2)] == list("bb")
    assert policy.pick(call(), [c], True) is None


# ---- sessions ----------------------------------------------------------------------------------------------------


def sessions(policy: ConsistentHash, targets: list[Target], count: int = 300) -> dict[str, str]:
    policy.update(targets)
    return {str(n): name_of(policy.pick(call(session_id=str(n)), targets, True)) for n in range(count)}


def test_a_session_stays_and_few_move_when_replicas_come_and_go() -> None:
    targets = [target(name) for name in "abcd"]
    before = sessions(ConsistentHash(), targets)
    assert sessions(ConsistentHash(), targets[::-1]) == before, "every router agrees"
    assert min(Counter(before.values()).values()) > 30
    after = sessions(ConsistentHash(), targets[:3])
    assert all(after[key] == name for key, name in before.items() if name != "d")


def test_a_full_replica_is_stood_in_for_by_its_successors_for_a_while_and_then_by_any() -> None:
    policy = ConsistentHash(num_fallback_replicas=1)
    targets = [target(name) for name in "abcd"]
    policy.update(targets)
    first, second = policy.preferred("s")
    by_name = {one.entry.replica_id: one for one in targets}
    by_name[first].full = True
    assert name_of(policy.pick(call(session_id="s"), targets, True)) == second
    by_name[second].full = True
    assert policy.pick(call(session_id="s"), targets, True) is None
    assert name_of(policy.pick(call(session_id="s"), targets, False)) not in ("", first, second)


def test_without_fallbacks_a_session_waits_for_its_replica_unless_that_takes_no_calls() -> None:
    policy = ConsistentHash(num_fallback_replicas=0)
    targets = [target(name) for name in "ab"]
    policy.update(targets)
    (name,) = policy.preferred("s")
    own = next(one for one in targets if one.entry.replica_id == name)
    own.full = True
    assert policy.pick(call(session_id="s"), targets, False) is None
    own.draining = True
    assert policy.pick(call(session_id="s"), targets, False) is not None


def test_calls_without_a_session_spread() -> None:
    policy = ConsistentHash()
    targets = [target("a"), target("b")]
    policy.update(targets)
    assert {name_of(policy.pick(call(), targets, True)) for _ in range(50)} == {"a", "b"}
    assert policy.line(call()) == "" and policy.line(call(session_id="s")) != ""


@pytest.mark.parametrize("options", [{"num_virtual_nodes": 0}, {"num_fallback_replicas": -1}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make_policy("consistent_hash", options)


# ---- models ------------------------------------------------------------------------------------------------------


def pick(policy: Policy, model_id: str, targets: list[Target], patient: bool = True) -> str:
    policy.update(targets)
    return name_of(policy.pick(call(model_id), targets, patient))


def test_whoever_has_the_model_gets_the_call_even_when_busier() -> None:
    targets = [with_models("a", "x"), with_models("b", "m", load=5), with_models("c", "")]
    assert pick(Policy(), "m", targets) == "b"


def test_a_full_holder_is_waited_for_and_then_anyone_will_do() -> None:
    targets = [with_models("a", "x"), with_models("b", "m", room=False)]
    assert pick(Policy(), "m", targets) == ""
    assert pick(Policy(), "m", targets, patient=False) == "a"


def test_a_miss_goes_where_no_model_must_go_and_to_the_fewest_models() -> None:
    assert pick(Policy(), "m", [with_models("a", "xy", 0), with_models("b", "xyz", 1)]) == "b"
    assert pick(Policy(), "m", [with_models("a", "xy", 1), with_models("b", "x", 1)]) == "b"
    assert pick(Policy(), "m", [with_models("a", "", -1, room=False), with_models("b", "xyz", 0)]) == "b"


def test_a_model_that_is_on_its_way_counts_as_there() -> None:
    targets = [with_models("a", ""), with_models("b", "")]
    policy = Policy()
    first = pick(policy, "m", targets)
    holder = next(one for one in targets if one.entry.replica_id == first)
    assert holder.record is not None
    sent = call("m")
    holder.record.sent(sent)
    holder.in_flight = 3
    assert pick(policy, "m", targets) == first
    assert pick(policy, "n", targets) != first, "the other one has fewer models now"
    holder.record.ended(sent)
    assert not holder.holds("m")


def test_full_replicas_take_turns_so_that_models_in_use_do_not_drive_each_other_out() -> None:
    targets = [with_models(name, "xyz", 0) for name in "abc"]
    policy, where = Policy(), []
    for number in range(9):
        model_id = f"m{number}"
        where.append(pick(policy, model_id, targets))
        taken = next(one for one in targets if one.entry.replica_id == where[-1])
        assert taken.record is not None
        sent = call(model_id)
        taken.record.sent(sent)
        taken.record.ended(sent)
    assert where[:3] == where[3:6] == where[6:] and len(set(where)) == 3


def test_routers_that_know_nothing_of_each_other_send_a_new_model_to_the_same_replica() -> None:
    def choice(model_id: str, names: str) -> str:
        return pick(Policy(), model_id, [with_models(name, "") for name in names])

    models = [f"m{number}" for number in range(60)]
    assert [choice(model, "abc") for model in models] == [choice(model, "cab") for model in models]
    assert len(Counter(choice(model, "abc") for model in models)) == 3


def test_a_deployment_without_models_routes_calls_that_name_one_as_any_other() -> None:
    targets = [target("a", 3), target("b")]
    policy = Policy()
    assert pick(policy, "m", targets) == "b" and policy.line(call("m")) == ""


def test_round_robin_goes_round_those_that_have_the_model() -> None:
    targets = [with_models("a", "m"), with_models("b", "x"), with_models("c", "m")]
    policy = RoundRobin()
    assert [pick(policy, "m", targets) for _ in range(4)] == list("acac")


# ---- nodes -------------------------------------------------------------------------------------------------------


def test_the_own_node_first_then_the_own_zone() -> None:
    policy = LocalityAware("n1", "z1")
    near = target("near", 5, node_id="n1", zone="z1")
    zone = target("zone", 3, node_id="n2", zone="z1")
    far = target("far", 0, node_id="n3", zone="z2")
    targets = [far, zone, near]
    assert name_of(policy.pick(call(), targets, True)) == "near"
    near.full = True
    assert name_of(policy.pick(call(), targets, True)) == "zone"
    zone.full = True
    assert name_of(policy.pick(call(), targets, True)) == "far"
