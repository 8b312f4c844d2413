"""Whatever processes do - count, tell, lose what they told, die, come back - no counter of the instance goes back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from eagleray.base.metrics import Registry
from eagleray.controller.telemetry import Telemetry

GROUPS = [("a", "D"), ("a", "E"), ("b", "D"), ("proxy", "")]


class Process:
    def __init__(self, number: int) -> None:
        self.group = GROUPS[number % len(GROUPS)]
        self.name = f"p{number}"
        self.registry = Registry()
        app, deployment = self.group
        labels = ("application", "deployment", "replica")
        self.calls = self.registry.counter("calls", "", *labels).value(app, deployment, self.name)
        self.routed = self.registry.counter("routed", "", "application").value(app)
        self.latency = self.registry.histogram("ms", "", *labels, bounds=(1, 10)).distribution(
            app, deployment, self.name
        )


STEPS = st.lists(
    st.tuples(st.sampled_from(["begin", "count", "tell", "lose", "reconnect", "die"]), st.integers(0, 60)),
    max_size=300,
)


def totals(telemetry: Telemetry) -> dict[tuple[str, ...], float]:
    """Every sum that a board may draw: as a whole, by application, by deployment; and what is exported."""
    found: dict[tuple[str, ...], float] = {}
    for name in ("calls", "routed"):
        for by in ((), ("application",), ("application", "deployment")):
            for key, value in telemetry.sum(name, by).items():
                found[(name, *by, *key)] = value
    for by in ((), ("application", "deployment")):
        for key, total in telemetry.histogram("ms", by).items():
            found[("ms count", *by, *key)] = total.count
            found[("ms sum", *by, *key)] = total.sum
            for index, count in enumerate(total.counts):
                found[("ms", str(index), *by, *key)] = count
    exported: dict[str, float] = {}
    for snapshot in telemetry.snapshots():
        if snapshot.name in ("calls", "routed", "ms"):
            exported[snapshot.name] = sum(sample.value for sample in snapshot.samples)
    for name, total in (("calls", "calls"), ("routed", "routed"), ("ms", "ms sum")):
        assert exported.get(name) == found.get((total,))
    return found


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_no_counter_goes_back(steps: list[tuple[str, int]]) -> None:
    telemetry = Telemetry()
    processes: dict[int, Process] = {}
    dead: set[int] = set()
    last: dict[tuple[str, ...], float] = {}
    for step, number in steps:
        process = processes.get(number)
        if process is None or step == "begin":
            if number in dead:
                continue
            process = processes.setdefault(number, Process(number))
            telemetry.begin(process.name, process.group)
        match step:
            case "count":
                process.calls.inc()
                process.routed.inc(2)
                process.latency.observe(number)
            case "tell":
                telemetry.tell(process.name, process.registry.collect())
            case "lose":
                process.registry.collect()  # sent, and never heard
            case "reconnect":
                telemetry.begin(process.name, process.group)
                telemetry.tell(process.name, process.registry.collect(everything=True))
            case "die":
                telemetry.ended(process.name)
                del processes[number]
                dead.add(number)
        now = totals(telemetry)
        for key, value in last.items():
            assert now[key] >= value, key
        last = now


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60), st.booleans())
def test_everything_that_was_told_is_in_the_sum(counts: list[int], tells_twice: bool) -> None:
    telemetry = Telemetry()
    for number, count in enumerate(counts):
        process = Process(number)
        telemetry.begin(process.name, process.group)
        process.calls.inc(count)
        telemetry.tell(process.name, process.registry.collect())
        if tells_twice:
            telemetry.tell(process.name, process.registry.collect(everything=True))
        if number % 3:
            telemetry.ended(process.name)
    assert telemetry.sum("calls").get((), 0.0) == sum(counts)
