"""The end of an instance that will come back: all drain, callers first, and nothing that was deployed is forgotten.

Proxies go first, so that what they have begun is answered; then replicas whose callers have gone. Unlike a shutdown,
which deletes what was deployed, this leaves no trace in the store: a controller that dies meanwhile is told again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eagleray.reconcile import events as e
from eagleray.reconcile.target import PROXY_KEYS

if TYPE_CHECKING:
    from eagleray.reconcile.world import World


def begun(world: World, event: e.LeavingBegun, now: float) -> set[str]:
    world.is_leaving = True
    return set()


def drain_begun(world: World, event: e.DrainBegun, now: float) -> set[str]:
    world.is_leaving = world.is_draining = True
    return {*world.deployments, *world.applications, "#"}


def listeners_closing(world: World, event: e.ListenersClosing, now: float) -> set[str]:
    world.is_shut = True
    return {"#"}


def may_leave(world: World, key: str) -> bool:
    """Whether it is the turn of this deployment, as far as proxies are concerned."""
    return key in PROXY_KEYS or not any(world.instances_of(proxy) for proxy in PROXY_KEYS)
