"""The only memory of a deployment: what it is on its way to, how often that failed, and whether it was given up.

All functions are pure: they take a rollout and give the next one. Wording is what users of Ray Serve know.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from eagleray.reconcile.target import Target

CRASH_DELAYS_S = (0.0, 0.5, 2.0, 8.0, 30.0)
"""Delay before another replica is started, by the number of failed starts and quick deaths before. At once the first
time; then so that a crash loop starts at most 6 processes in its first minute."""

STABLE_S = 10.0
"""A replica that was up this long before it died does not belong to a crash loop."""

PROBATION_S = 60.0
"""For so long after an update was reached a crash loop of its replicas takes it back, where that was asked for."""


class Goal(StrEnum):
    """What the deployment is doing until it reaches its target."""

    UPDATE = "update"
    UPSCALE = "upscale"
    DOWNSCALE = "downscale"


class Problem(StrEnum):
    """What went wrong since the target was last reached."""

    NONE = ""
    STARTUP = "startup"
    HEALTH = "health"


class Rollout(msgspec.Struct, frozen=True, omit_defaults=True):
    """`was_up`: a replica of this version has been ready once, which proves it. `is_rolling`: an older version serves
    meanwhile.

    `failures` counts failed starts in a row. `halted`: given up until the next deploy. `recovered`: the target was
    reached again after a problem.
    """

    goal: Goal = Goal.UPDATE
    message: str = ""
    reached: bool = False
    was_up: bool = False
    is_rolling: bool = False
    failures: int = 0
    problem: Problem = Problem.NONE
    error: str = ""
    halted: bool = False
    recovered: bool = False
    auto: bool = False
    """Load has asked for it, nobody has deployed."""


def begin(current: Rollout, old: Target | None, new: Target, *, stable: Target | None) -> Rollout:
    """The rollout after `new` was deployed over `old`. An identical target changes nothing, unless something failed."""
    if old == new and not (current.halted or current.problem):
        return current
    same_version = old is not None and old.version == new.version
    if (
        old is not None
        and old.num_replicas != new.num_replicas
        and same_version
        and _without_count(old) == _without_count(new)
    ):
        if not current.reached and not current.halted:
            return _recounted(msgspec.structs.replace(current, failures=0), old, new)
        if not current.halted and not current.problem:
            return _headed(Rollout(was_up=current.was_up), old.num_replicas, new.num_replicas)
    is_proven = stable is not None and stable.version == new.version
    return Rollout(
        was_up=is_proven or (same_version and current.was_up),
        is_rolling=stable is not None and stable.version != new.version,
    )


def _recounted(current: Rollout, old: Target, new: Target) -> Rollout:
    """Another count on the way: an update stays one, a change of the count may have turned round."""
    if current.goal is Goal.UPDATE:
        return current
    return msgspec.structs.replace(
        _headed(current, old.num_replicas, new.num_replicas),
        auto=False,
    )


def _headed(rollout: Rollout, before: int, after: int) -> Rollout:
    """With the direction and the wording of a change of the count."""
    verb = "Upscaling" if after > before else "Downscaling"
    return msgspec.structs.replace(
        rollout,
        goal=Goal.UPSCALE if after > before else Goal.DOWNSCALE,
        message=f"{verb} from {before} to {after} replicas.",
    )


def after_scaling(current: Rollout, before: int, after: int) -> Rollout:
    """The rollout after load has changed the count. An update that is under way goes on, one given up stays so."""
    if current.halted or (current.goal is Goal.UPDATE and not current.reached):
        return current
    return msgspec.structs.replace(_headed(current, before, after), reached=False, auto=True)


def after_start_failure(rollout: Rollout, target: Target, error: str) -> Rollout:
    """One more replica of the target's version did not come up; past the budget, a version never up is given up."""
    failures = rollout.failures + 1
    is_over = failures >= target.failure_budget and not target.endless
    return msgspec.structs.replace(
        rollout,
        failures=failures,
        problem=Problem.STARTUP,
        error=error,
        recovered=False,
        halted=rollout.halted
        or (is_over and not rollout.reached and (rollout.is_rolling or not rollout.was_up)),
    )


def after_death(rollout: Rollout, target: Target, error: str) -> Rollout:
    """A replica of the target's version was up and is lost; during a rolling update this counts against the budget."""
    failures = rollout.failures + (rollout.is_rolling and not rollout.reached)
    return msgspec.structs.replace(
        rollout,
        failures=failures,
        problem=Problem.HEALTH,
        error=error,
        recovered=False,
        halted=rollout.halted
        or (failures >= target.failure_budget and rollout.is_rolling and not rollout.reached),
    )


def after_up(rollout: Rollout) -> Rollout:
    """A replica of the target's version is ready."""
    return rollout if rollout.was_up else msgspec.structs.replace(rollout, was_up=True)


def after_reached(rollout: Rollout) -> Rollout:
    """Target reached: problems are over, and further ones do not halt anything, but where none was wanted yet."""
    return Rollout(
        goal=rollout.goal,
        reached=True,
        was_up=rollout.was_up,
        recovered=rollout.recovered
        or (rollout.problem is Problem.HEALTH)
        or (rollout.reached and bool(rollout.problem)),
    )


def taken_back(rollout: Rollout, deaths: int) -> Rollout:
    """The update was reached, and given up after all: its replicas came up, and died `deaths` times in a row."""
    return msgspec.structs.replace(rollout, halted=True, reached=False, is_rolling=True, failures=deaths)


def crash_delay_s(deaths: int, num_replicas: int) -> float:
    """Delay after `deaths` quick deaths in a row: every replica may die once before the next step."""
    step = 0 if deaths <= 0 else (deaths - 1) // max(num_replicas, 1)
    return CRASH_DELAYS_S[min(step, len(CRASH_DELAYS_S) - 1)]


def failure_message(rollout: Rollout, target: Target, back_to: Target | None = None) -> str:
    """What is shown beside the status while there is a problem, or else what the rollout is doing.

    `back_to` is the target that replicas went back to after an update that failed.
    """
    if back_to is not None and rollout.halted:
        return (
            f"The update to version '{target.code_version}' failed {rollout.failures} times in a row and was rolled "
            f"back: {_named(back_to, target)} serves until the next deploy. Error:\n{rollout.error}"
        )
    if rollout.problem is Problem.HEALTH:
        text = (
            "A replica's health check failed. This deployment will be UNHEALTHY until the replica recovers or a new "
            "deploy happens."
        )
        return f"{text} Error:\n{rollout.error}" if rollout.error else text
    if rollout.problem is Problem.NONE:
        return rollout.message
    if rollout.failures < target.failure_budget and not rollout.halted:
        left = target.failure_budget - rollout.failures
        return (
            f"A replica failed to start with exception. Retrying {left} more time(s). Error:\n{rollout.error}"
        )
    start = f"The deployment failed to start {rollout.failures} times in a row"
    if rollout.is_rolling and rollout.halted:
        start += " during a rolling update. Replicas of the previous version keep running"
    return (
        f"{start}. This may be due to a problem with its constructor or initial health check failing. "
        f"See controller logs for details. Error:\n{rollout.error}"
    )


def _named(target: Target, other: Target) -> str:
    if target.code_version == other.code_version:  # only options differ
        return f"version '{target.code_version}' with its former configuration"
    return f"version '{target.code_version}'"


def _without_count(target: Target) -> Target:
    """The target with all that a change of `num_replicas` alone changes taken out."""
    config = msgspec.structs.replace(target.config, world_size=0)
    counts = ("num_replicas", "autoscaling_config")
    options = {name: value for name, value in target.options.items() if name not in counts}
    return msgspec.structs.replace(target, num_replicas=0, config=config, options=options, rules=None)
