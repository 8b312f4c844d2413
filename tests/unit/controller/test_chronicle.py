"""The last events: what becomes one, with which cause, and what somebody who reads on from an id is given."""

from __future__ import annotations

from typing import Any

import pytest

from eagleray.controller.chronicle import MOST, MOST_TEXT, Chronicle, Kind
from eagleray.controller.occurrences import Occurrences
from eagleray.reconcile import events as e
from eagleray.reconcile.instance import InstanceRow, InstanceState, Trigger
from eagleray.reconcile.world import Deployment, DeploymentRow, World


class Told:
    """A world, and what is told of it."""

    def __init__(self) -> None:
        self.world = World("seed")
        self.chronicle = Chronicle(lambda: 1_700_000_000.5)
        self.occurrences = Occurrences(self.chronicle, self.world)
        self.world.deployments["a#D"] = Deployment(DeploymentRow("a#D"), None)

    def happens(self, *events: e.Event) -> None:
        for event in events:
            self.occurrences.on_event(event)
            self.world.apply(event, 100.0)
        self.occurrences.settle()

    def replica(self, ref: str = "replica-1", state: InstanceState = InstanceState.STARTING) -> None:
        self.happens(e.Planned(InstanceRow(ref, "a#D", ref[-1], "v", state=state)))

    def told(self) -> list[tuple[str, str]]:
        return [(one["kind"], one["cause"]) for one in self.chronicle.read()["events"]]


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_replicas_life(told: Told) -> None:
    told.replica()
    steps = [Trigger.READY, Trigger.RETIRE, Trigger.UNLISTED, Trigger.DRAINED, Trigger.LOST, Trigger.EXITED]
    told.happens(*(e.Happened("replica-1", trigger) for trigger in steps))
    assert told.told() == [
        ("starting", ""),
        ("ready", ""),
        ("stopping", "nobody wants its deployment any more"),
        ("ended", ""),
    ]
    event = told.chronicle.read()["events"][1]
    assert event["application"] == "a" and event["deployment"] == "D" and event["instance"] == "replica-1"
    assert event["message"] == "Replica 1 is ready." and event["at"] == 1_700_000_000.5


@pytest.mark.parametrize(
    ("trigger", "state", "expected"),
    [
        (Trigger.FAILED, InstanceState.STARTING, "start_failed"),
        (Trigger.REJECTED, InstanceState.STARTING, "start_failed"),
        (Trigger.EXITED, InstanceState.STARTING, "start_failed"),
        (Trigger.LOST, InstanceState.RUNNING, "died"),
        (Trigger.EXITED, InstanceState.UPDATING, "died"),
        (Trigger.LOST, InstanceState.DRAINING, "died"),
        (Trigger.REFUSED, InstanceState.UPDATING, "refused"),
        (Trigger.OVERDUE, InstanceState.STOPPING, "killed"),
        (Trigger.RETIRE, InstanceState.RUNNING, "stopping"),
        (Trigger.EXITED, InstanceState.KILLING, "ended"),
    ],
)
def test_why_an_instance_changes(told: Told, trigger: Trigger, state: InstanceState, expected: str) -> None:
    told.replica(state=state)
    told.happens(e.Happened("replica-1", trigger, "a reason"))
    cause = "" if expected == "killed" else "a reason"
    assert told.told()[1:] == [(expected, cause)]


def test_what_changes_nothing_is_not_told(told: Told) -> None:
    told.replica(state=InstanceState.KILLING)
    told.happens(
        e.Happened("replica-1", Trigger.READY),
        e.Happened("replica-1", Trigger.LOST),
        e.Happened("replica-9", Trigger.LOST),
        e.Expired("replica-1", "old"),
        e.HealthChecked("replica-1", "sick"),
        e.Suspended("replica-9", True),
    )
    assert len(told.told()) == 1


def test_three_failed_checks_are_told_once(told: Told) -> None:
    told.replica(state=InstanceState.RUNNING)
    told.happens(*(e.HealthChecked("replica-1", "timed out") for _ in range(5)))
    ((kind, cause),) = told.told()[1:]
    assert kind == "unhealthy" and cause.endswith("have failed: timed out")


def test_a_process_that_is_stopped_and_goes_on(told: Told) -> None:
    told.replica(state=InstanceState.RUNNING)
    for stopped in (True, True, False, False):
        told.happens(e.Suspended("replica-1", stopped))
    assert [kind for kind, _ in told.told()[1:]] == ["paused", "resumed"]


def test_a_new_controller_tells_what_has_died_meanwhile(told: Told) -> None:
    told.happens(e.Adopted({}))
    assert told.chronicle.read()["events"][0]["message"] == "The controller has started."
    for ref in ("replica-1", "replica-2"):
        told.replica(ref, InstanceState.RUNNING)
    told.happens(e.Adopted({"replica-2": 17}))
    found = told.chronicle.read()["events"][-2:]
    assert "1 of 2 processes live on" in found[0]["message"]
    assert (found[1]["kind"], found[1]["instance"]) == ("died", "replica-1")


def add(chronicle: Chronicle, number: int, **more: Any) -> None:
    for index in range(number):
        chronicle.add(Kind.SCALED, f"event {index}", **more)


def test_who_reads_on_is_given_what_is_new() -> None:
    chronicle = Chronicle(lambda: 1000.0)
    assert chronicle.read() == {"events": [], "next": 1_000_000_000, "missed": False}
    add(chronicle, 3)
    first = chronicle.read()
    assert [one["message"] for one in first["events"]] == ["event 0", "event 1", "event 2"]
    add(chronicle, 2, key="a#D")
    found = chronicle.read(since=first["next"])
    assert len(found["events"]) == 2 and not found["missed"]
    assert chronicle.read(application="a")["events"] == found["events"]
    assert chronicle.read(limit=1)["events"] == found["events"][1:]
    assert chronicle.read(limit=0)["events"] == []
    assert chronicle.read(since=found["next"])["events"] == []


def test_the_oldest_make_room_and_that_is_told() -> None:
    chronicle = Chronicle(lambda: 1000.0)
    add(chronicle, 1)
    since = chronicle.read()["next"]
    add(chronicle, MOST)
    assert not chronicle.read(since=since)["missed"]
    add(chronicle, 1)
    found = chronicle.read(since=since)
    assert found["missed"] and len(found["events"]) == MOST


def test_ids_grow_over_controllers() -> None:
    former, later = Chronicle(lambda: 1000.0), Chronicle(lambda: 1001.0)
    add(former, 1500)
    add(later, 1)
    found = later.read(since=former.read()["next"])
    assert len(found["events"]) == 1 and found["missed"]


def test_texts_are_bounded_and_tell_no_secrets() -> None:
    chronicle = Chronicle(lambda: 1000.0)
    chronicle.add(Kind.DIED, "gone", "x" * 9999 + " https://me:hush@host/ ValueError: the end\n")
    (event,) = chronicle.read()["events"]
    assert len(event["cause"]) <= MOST_TEXT + 20 and event["cause"].endswith("ValueError: the end")
    assert "hush" not in event["cause"]
