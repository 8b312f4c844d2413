"""Whatever happens in whatever order: the invariants hold, and once faults stop every target is reached.

The invariants themselves are in `tests.decided`: after every event the routing table lists exactly the instances that
are up, no GPU is given out twice, reconcile changes nothing by itself, and no command names an unknown instance. An
illegal transition raises.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.decided import DIES, RAISES, REJECTED, UP, Decided

from eagleray.reconcile import events as e
from eagleray.reconcile.instance import LISTED, Trigger
from eagleray.reconcile.placement import Supply

APPS = ("a", "b")
SUPPLY = Supply(num_cpus=2, memory=1000, gpu_ids=("0", "1"))

options = st.fixed_dictionaries(
    {"num_replicas": st.integers(1, 3), "version": st.sampled_from(["v1", "v2", "v3"])},
    optional={
        "user_config": st.sampled_from([None, 1, 2]),
        "ray_actor_options": st.sampled_from([{"num_gpus": 0.5}, {"num_gpus": 1}, {"memory": 300}]),
        "graceful_shutdown_timeout_s": st.sampled_from([0, 5]),
        "max_constructor_retry_count": st.sampled_from([1, 20]),
    },
)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.decided = Decided(SUPPLY)
        self.outcomes: list[str] = []

    @initialize()
    def begin(self) -> None:
        self.decided.outcome = lambda row: self.outcomes.pop() if self.outcomes else UP
        self.decided.want_proxy()

    @rule(app=st.sampled_from(APPS), front=options, back=st.none() | options)
    def deploy(self, app: str, front: dict[str, object], back: dict[str, object] | None) -> None:
        deployments = (
            {"front": front} if back is None else {"front": {**front, "children": ["back"]}, "back": back}
        )
        self.decided.deploy(app, route_prefix=f"/{app}", **deployments)

    @rule(app=st.sampled_from(APPS))
    def delete(self, app: str) -> None:
        self.decided.apply(e.DeleteRequested((app,)))

    @rule(outcomes=st.lists(st.sampled_from([UP, RAISES, DIES, REJECTED]), max_size=4))
    def trouble(self, outcomes: list[str]) -> None:
        self.outcomes = outcomes

    @precondition(lambda self: self.decided.pending)
    @rule(data=st.data())
    def perform_any(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.decided.pending) - 1))
        self.decided.perform(self.decided.pending.pop(index))

    @precondition(lambda self: self.decided.leaving())
    @rule(data=st.data())
    def unlist_any(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(sorted(self.decided.leaving())))
        self.decided.apply(e.Happened(ref, Trigger.UNLISTED))

    @precondition(lambda self: self.decided.alive)
    @rule(data=st.data())
    def kill_any(self, data: st.DataObject) -> None:
        self.decided.die(data.draw(st.sampled_from(sorted(self.decided.alive))))

    @precondition(lambda self: self.decided.alive)
    @rule(data=st.data(), error=st.sampled_from(["", "sick"]))
    def check_any(self, data: st.DataObject, error: str) -> None:
        ref = data.draw(st.sampled_from(sorted(self.decided.alive)))
        self.decided.apply(e.HealthChecked(ref, error))

    @rule(refusal=st.sampled_from(["", "refused"]))
    def configuration(self, refusal: str) -> None:
        self.decided.reconfigure = lambda ref: refusal

    @rule(seconds=st.sampled_from([0.1, 1.0, 20.0]))
    def time(self, seconds: float) -> None:
        """Only alarms that are due; what they lead to stays pending."""
        decided = self.decided
        decided.now += seconds
        decided.queue.promote(decided.now)
        decided.reconcile_all()

    @rule()
    def restart(self) -> None:
        self.decided.restart()
        self.decided.want_proxy()

    def teardown(self) -> None:
        decided = self.decided
        self.outcomes = []
        decided.reconfigure = lambda ref: ""
        decided.settle()
        decided.advance(120)
        decided.settle()
        world = decided.world
        assert set(world.instances) == decided.alive, "every process has a row, every row a process"
        assert not any(one.state not in LISTED for one in world.instances.values())
        assert decided.states("#http") == {"RUNNING": 1}
        for key, deployment in world.deployments.items():
            target = deployment.target
            assert target is not None, "what goes is gone"
            if deployment.row.rollout.halted:
                continue
            overview = (
                decided.status(key.partition("#")[0], key.partition("#")[2]) if key != "#http" else None
            )
            if overview is not None and "needs " in overview.message:
                continue
            assert decided.states(key) == {"RUNNING": target.num_replicas}
            assert {one.row.version for one in world.instances_of(key)} == {target.version}
            assert {one.row.config for one in world.instances_of(key)} == {target.config}
            assert overview is None or overview.status == "HEALTHY"
        decided.apply(e.ShutdownRequested())
        decided.settle()
        assert decided.has_ended
        assert not decided.rows()


TestReconcile = Machine.TestCase
TestReconcile.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
