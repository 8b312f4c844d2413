"""The invariants bite: each of these known mistakes is found by a few seeds, by the invariant that is meant for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from eagleray.controller import controller
from eagleray.controller.autoscaling import Autoscaling
from eagleray.controller.publisher import Publisher
from eagleray.reconcile import deployment, lifecycle, reaching, world
from eagleray.reconcile import events as e
from eagleray.reconcile.autoscaler import Autoscaler
from eagleray.reconcile.target import Target
from eagleray.reconcile.world import INSTANCES, World
from eagleray.routing.call import RoutedCall
from eagleray.routing.pool import Pool
from eagleray.testing.simulation.scenario import simulate
from eagleray.wire.messages import DRAINING, ErrorHead

Patch = pytest.MonkeyPatch

SEEDS = 40
"""At most so many are tried."""


def drain_before_routers_know(patch: Patch) -> None:
    patch.setattr(Publisher, "_least_acked", lambda self: self.table.version)


def start_without_a_row(patch: Patch) -> None:
    note = World._note

    def forgetful(self: World, table: str, key: str, row: Any) -> None:
        if table != INSTANCES or row is None or row.pid:
            note(self, table, key, row)

    patch.setattr(World, "_note", forgetful)


def retire_before_the_successor_is_up(patch: Patch) -> None:
    replace: Callable[..., None] = deployment._replace

    def hasty(
        plan: Any, world: Any, one: Any, goal: Any, instances: Any, current: Any, old: Any, *rest: Any
    ) -> None:
        going = [
            other for other in old if other.is_listed
        ]  # else what restores the old version starts without end
        replace(plan, world, one, goal, instances, current, old, *rest)
        deployment._retire(plan, going, "too early")

    patch.setattr(deployment, "_replace", hasty)


def give_up_the_old_with_the_new(patch: Patch) -> None:
    patch.setattr(
        deployment,
        "_converge",
        _giving_up(deployment._converge),
    )


def _giving_up(converge: Callable[..., None]) -> Callable[..., None]:
    def wrong(plan: Any, world: Any, one: Any, target: Any, instances: Any, now: float) -> None:
        if one.row.rollout.failures:
            deployment._retire(plan, [old for old in instances if old.row.version != target.version])
        else:
            converge(plan, world, one, target, instances, now)

    return wrong


def acknowledge_before_it_is_durable(patch: Patch) -> None:
    patch.setattr(controller, "accepted_rows", lambda world, event: {})


def never_end_a_drain(patch: Patch) -> None:
    patch.setattr(deployment, "DRAIN_GRACE_S", 10_000.0)


def forget_the_living(patch: Patch) -> None:
    adopted = lifecycle.adopted
    patch.setitem(world._HANDLERS, e.Adopted, lambda world, event, now: adopted(world, e.Adopted({}), now))


def send_again_what_may_have_run(patch: Patch) -> None:
    on_error = RoutedCall.on_error

    def careless(self: RoutedCall, head: ErrorHead, body: bytes) -> None:
        on_error(self, ErrorHead(DRAINING) if head.code == "replica_died" else head, body)

    patch.setattr(RoutedCall, "on_error", careless)


def keep_replicas_that_left_the_table(patch: Patch) -> None:
    patch.setattr(Pool, "_retire", lambda self, replica_ids: None)


def do_not_hear_of_room(patch: Patch) -> None:
    patch.setattr(Pool, "wake", lambda self: None)


def never_wake(patch: Patch) -> None:
    patch.setattr(Autoscaler, "_wake", lambda self, target, low, high: None)


def never_scale_down(patch: Patch) -> None:
    damped = Autoscaler._damped
    patch.setattr(
        Autoscaler, "_damped", lambda self, running, wish: max(damped(self, running, wish), running)
    )


def ignore_wishes_to_be_replaced(patch: Patch) -> None:
    patch.setattr(lifecycle, "_expire", lambda world, instance, reason: None)


def trust_what_has_never_run(patch: Patch) -> None:
    reached = reaching.after_reached
    patch.setattr(
        reaching, "after_reached", lambda rollout: msgspec.structs.replace(reached(rollout), was_up=True)
    )


def follow_the_load_of_what_was_given_up(patch: Patch) -> None:
    def declared(self: Autoscaling, key: str) -> Target | None:
        one = self._world.deployments.get(key)
        target = one.target if one is not None else None
        return target if target is not None and target.rules is not None else None

    patch.setattr(Autoscaling, "_target", declared)


MUTATIONS = [
    (drain_before_routers_know, "told to drain"),
    (start_without_a_row, "before its row is durable"),
    (retire_before_the_successor_is_up, "replicas listed"),
    (give_up_the_old_with_the_new, "replicas listed"),
    (acknowledge_before_it_is_durable, "was acknowledged and is lost"),
    (never_end_a_drain, "is DRAINING for"),
    (forget_the_living, "come to rest"),
    (send_again_what_may_have_run, "and again on"),
    (keep_replicas_that_left_the_table, "does not list"),
    (do_not_hear_of_room, "have no answer"),
    (never_wake, "for which it will wake"),
    (never_scale_down, "replicas without load"),
    (ignore_wishes_to_be_replaced, "want to be replaced"),
    (trust_what_has_never_run, "for which it will wake"),
    (follow_the_load_of_what_was_given_up, "while nothing happened"),
]


@pytest.mark.parametrize(("mutate", "found"), MUTATIONS, ids=[mutate.__name__ for mutate, _ in MUTATIONS])
def test_a_planted_mistake_is_found(
    mutate: Callable[[Patch], None], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    for seed in range(SEEDS):
        if any(found in violation for violation in simulate(seed).violations):
            return
    pytest.fail(f"no seed below {SEEDS} finds it")
