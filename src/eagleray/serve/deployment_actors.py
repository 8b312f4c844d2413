"""Actors that the replicas of a deployment share, of which the local engine has none: the names that ask for them."""

from __future__ import annotations

from typing import NoReturn

from eagleray.base.errors import EaglerayError
from eagleray.base.ray_names import NeedsRayError
from eagleray.serve import context


def get_deployment_actor(name: str) -> NoReturn:
    """Always raises: RayServeException outside of a replica, in one NeedsRayError."""
    if context.current_process().replica is None:
        raise EaglerayError(
            "`serve.get_deployment_actor()` may only be called from within a replica, and on the Ray engine."
        )
    raise NeedsRayError(
        f"There is no deployment actor '{name}': they are Ray actors, and this is the local engine. Make it a "
        f"deployment of its own with num_replicas=1 and bind it: its handle does the same. Or run on the Ray engine; "
        f"see docs/compat.md."
    )


def get_deployment_actor_context() -> NoReturn:
    """Always raises RayServeException: this code runs in no deployment actor."""
    raise EaglerayError(
        "`serve.get_deployment_actor_context()` may only be called from within a deployment actor, which needs the Ray "
        "engine; in a replica it is `serve.get_replica_context()`."
    )
