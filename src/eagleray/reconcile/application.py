"""Applications and the instance as a whole: what must be built, and what is finished when its parts are gone."""

from __future__ import annotations

from eagleray.reconcile import commands as c
from eagleray.reconcile import events as e
from eagleray.reconcile.commands import Plan
from eagleray.reconcile.deployment import reconcile_deployment
from eagleray.reconcile.target import PROXY_KEYS
from eagleray.reconcile.world import SYSTEM_KEY, World


def reconcile(world: World, key: str, now: float) -> Plan:
    """What to do about `key`, and when to look again. Changes nothing; unknown keys need nothing."""
    if key == SYSTEM_KEY:
        return _reconcile_system(world)
    if "#" in key:
        return reconcile_deployment(world, key, now)
    return _reconcile_application(world, key)


def _reconcile_application(world: World, name: str) -> Plan:
    row = world.applications.get(name)
    if row is None:
        return Plan()
    if (
        row.build is not None
        and not row.deleting
        and not world.is_draining
        and world.building.get(name) != row.generation
    ):
        return Plan(
            [c.BuildApplication(name, row.generation, row.build)], [e.BuildBegun(name, row.generation)]
        )
    if row.deleting and not world.deployments_of(name):
        return Plan(events=[e.ApplicationGone(name)])
    return Plan()


def _reconcile_system(world: World) -> Plan:
    """Shuts down in order: applications first, then proxies, then everything."""
    if world.is_draining and not world.is_closing:
        return Plan() if world.instances or world.has_ended else Plan([c.EndInstance()], [e.Ended()])
    if not world.is_closing or world.has_ended or world.applications:
        return Plan()
    proxies = [(key, world.deployments.get(key)) for key in PROXY_KEYS]
    if serving := [key for key, one in proxies if one is not None and one.target is not None]:
        return Plan(events=[e.ProxyWanted(None, key) for key in serving])
    if world.deployments or world.instances:
        return Plan()
    return Plan([c.EndInstance()], [e.Ended()])
