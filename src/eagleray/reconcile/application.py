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
        stopped = [c.StopBuild(name)] if name in world.building else []
        return Plan(stopped, [e.ApplicationGone(name)])
    return Plan()


def _reconcile_system(world: World) -> Plan:
    """Ends in order: nobody connects any more, what is under way is answered, then everything is gone.

    Deployments know by themselves when it is their turn. A shutdown, unlike a drain, deletes them too.
    """
    if world.has_ended or not (world.is_draining or world.is_closing):
        return Plan()
    if not world.is_shut:
        return Plan([c.CloseListeners()], [e.ListenersClosing()])
    if world.is_draining and not world.is_closing:
        return Plan() if world.instances else Plan([c.EndInstance()], [e.Ended()])
    proxies = [(key, world.deployments.get(key)) for key in PROXY_KEYS]
    if serving := [key for key, one in proxies if one is not None and one.target is not None]:
        return Plan(events=[e.ProxyWanted(None, key) for key in serving])
    if world.applications or world.deployments or world.instances:
        return Plan()
    return Plan([c.EndInstance()], [e.Ended()])
