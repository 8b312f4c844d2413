"""What a change of a deployment's options does to its replicas.

The answer is the strongest effect among the options that differ; each option declares its own effect.
"""

from __future__ import annotations

from eagleray.spec.base import Effect, effect_of
from eagleray.spec.deployment import DeploymentSpec


def changed_fields(old: DeploymentSpec, new: DeploymentSpec) -> list[str]:
    """Names of the options whose values differ, in the order of declaration; defaults given or not are equal."""
    return [name for name in DeploymentSpec.model_fields if getattr(old, name) != getattr(new, name)]


def diff(old: DeploymentSpec, new: DeploymentSpec) -> Effect:
    """The strongest effect among the changed options; `Effect.NONE` when nothing differs."""
    return max((effect_of(DeploymentSpec, name) for name in changed_fields(old, new)), default=Effect.NONE)
