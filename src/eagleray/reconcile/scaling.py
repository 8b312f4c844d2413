"""How many replicas an autoscaled deployment has: its rules, the count that is durable, and why it was changed.

A count that load has chosen is laid over the target that the application's spec gives, so that it
survives deploys of the same options and restarts of the controller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from eagleray.spec.autoscaling import AutoscalingConfig, built_in_policy
from eagleray.spec.overlay import scaled_count

if TYPE_CHECKING:
    from eagleray.reconcile.target import Target

_KEPT_DECISIONS = 10


class ScalingRules(msgspec.Struct, frozen=True, omit_defaults=True):
    """An `AutoscalingConfig` with everything derived; times in seconds. `policy` is empty for the default one.

    `policy_kind` is `default` and `latency` for those of ours, empty for one of the user's, `app` for one of the
    application.
    """

    low: int = 1
    high: int = 1
    initial: int | None = None
    target_ongoing: float = 2.0
    interval_s: float = 6.0
    look_back_s: float = 30.0
    up_factor: float = 1.0
    down_factor: float = 1.0
    up_delay_s: float = 30.0
    down_delay_s: float = 600.0
    zero_delay_s: float = 600.0
    aggregation: str = "mean"
    policy_kind: str = "default"
    policy: str = ""
    policy_kwargs: str = "{}"
    p95_s: float = 0.0
    """What the latency policy keeps."""
    capacity: float | None = None
    """`target_capacity`, a percentage of the bounds."""
    is_rising: bool = False
    """Whether the last change of `target_capacity` raised it: `initial` is the least until it falls or ends."""

    @property
    def is_custom(self) -> bool:
        """Whether code of the user's computes the count, for the deployment or (`app`) for its whole application."""
        return self.policy_kind in ("", "app")

    @property
    def bounds(self) -> tuple[int, int]:
        """Fewest and most replicas at the present capacity."""
        low = self.low if self.initial is None or not self.is_rising else self.initial
        return scaled_count(low, self.capacity), scaled_count(self.high, self.capacity)

    @property
    def first(self) -> int:
        """How many replicas to begin with at the present capacity."""
        return scaled_count(self.low if self.initial is None else self.initial, self.capacity)

    def clip(self, count: int) -> int:
        """`count` within the bounds."""
        low, high = self.bounds
        return min(max(count, low), high)


class ScalingDecision(msgspec.Struct, frozen=True):
    """One change of the count. `at` is wall time; the names are those of `autoscaling_detail` (surface 5.4)."""

    timestamp_s: float
    reason: str
    prev_num_replicas: int
    curr_num_replicas: int
    policy: str


class Scaling(msgspec.Struct, frozen=True, omit_defaults=True):
    """The count in force and the last decisions, oldest first. `rules` are those that it was chosen by."""

    count: int
    rules: ScalingRules
    decisions: tuple[ScalingDecision, ...] = ()


def rules_of(config: AutoscalingConfig | None) -> ScalingRules | None:
    """None for a fixed number of replicas."""
    if config is None:
        return None
    kind = built_in_policy(config.policy.policy_function)
    zero_delay_s = config.downscale_to_zero_delay_s
    return ScalingRules(
        low=config.min_replicas,
        high=config.max_replicas,
        initial=config.initial_replicas,
        target_ongoing=config.target_ongoing_requests,
        interval_s=config.sample_interval_s,
        look_back_s=config.look_back_period_s,
        up_factor=config.up_factor,
        down_factor=config.down_factor,
        up_delay_s=config.upscale_delay_s,
        down_delay_s=config.downscale_delay_s,
        zero_delay_s=config.downscale_delay_s if zero_delay_s is None else zero_delay_s,
        aggregation=config.aggregation_function.value,
        policy_kind=kind,
        policy="" if kind == "default" else str(config.policy.policy_function),
        p95_s=config.policy.policy_kwargs["p95_ms"] / 1000 if kind == "latency" else 0.0,
        policy_kwargs=msgspec.json.encode(config.policy.policy_kwargs).decode(),
    )


def counted(target: Target, former: Target | None, scaling: Scaling | None) -> tuple[Target, Scaling | None]:
    """`target`, as a spec gives it, with the count that is to be in force.

    A count that was chosen for the same options stays. Other rules begin with their initial count, or else with the
    count that there is, within their bounds (surface 6.6). What it gives depends on the spec and on what is durable
    only, so that a restart of the controller comes to the same.
    """
    if target.rules is None:
        return target, None
    before = scaling.rules if scaling is not None else None
    rules = msgspec.structs.replace(target.rules, is_rising=_is_rising(target.rules, before))
    if rules != target.rules:
        target = msgspec.structs.replace(target, rules=rules)
    if scaling is not None and _is_declared_alike(scaling.rules, rules):
        # The last step of a rise, to the whole capacity, lifts the count as those before did and ends the rise.
        is_lifted = _percent(rules) > _percent(scaling.rules) and rules.initial is not None
        count = rules.clip(max(scaling.count, rules.first) if is_lifted else scaling.count)
    elif rules.initial is not None:
        count = rules.first
    else:
        present = scaling.count if scaling is not None else former.num_replicas if former is not None else 0
        count = rules.clip(present)
    decisions = scaling.decisions if scaling is not None else ()
    return with_count(target, count), Scaling(count, rules, decisions)


def _is_rising(rules: ScalingRules, before: ScalingRules | None) -> bool:
    """Whether capacity rises, as in a hand-over between two instances: from the first `target_capacity`, or one above
    that before, until it falls or is not given any more (surface 6.6)."""
    if rules.capacity is None:
        return False
    if before is None:
        return True
    return before.is_rising if _percent(rules) == _percent(before) else _percent(rules) > _percent(before)


def _is_declared_alike(one: ScalingRules, other: ScalingRules) -> bool:
    """Whether users have written the same, whatever the instance makes of it."""
    return _declared(one) == _declared(other)


def _declared(rules: ScalingRules) -> ScalingRules:
    return msgspec.structs.replace(rules, capacity=None, is_rising=False)


def _percent(rules: ScalingRules) -> float:
    return 100.0 if rules.capacity is None else rules.capacity


def with_policy(target: Target, policy: str, kwargs: str) -> Target:
    """The target with its application's policy, if it scales at all."""
    if target.rules is None:
        return target
    rules = msgspec.structs.replace(target.rules, policy_kind="app", policy=policy, policy_kwargs=kwargs)
    return msgspec.structs.replace(target, rules=rules)


def with_count(target: Target, count: int) -> Target:
    """The target with another number of replicas."""
    if target.num_replicas == count:
        return target
    config = msgspec.structs.replace(target.config, world_size=count)
    return msgspec.structs.replace(target, num_replicas=count, config=config)


def decided(
    scaling: Scaling | None, rules: ScalingRules, count: int, before: int, reason: str, at: float
) -> Scaling:
    """The row after `rules` have changed the count to `count`; only the last decisions are kept."""
    decision = ScalingDecision(at, reason, before, count, rules.policy_kind or "custom")
    former = scaling.decisions if scaling is not None else ()
    return Scaling(count, rules, (*former, decision)[-_KEPT_DECISIONS:])


def taken_back(stable: Target, scaling: Scaling | None) -> tuple[Target, Scaling | None]:
    """`stable`, when the update after it was given up, with the count to be in force, and the row that goes with it.

    What load has chosen meanwhile by the same rules counts on; a count that the failed version's options asked for,
    its initial one for instance, does not.
    """
    rules = stable.rules
    if rules is None:
        return stable, None
    is_same = scaling is not None and _is_declared_alike(scaling.rules, rules)
    count = rules.clip(scaling.count if scaling is not None and is_same else stable.num_replicas)
    return with_count(stable, count), Scaling(count, rules, scaling.decisions if scaling is not None else ())
