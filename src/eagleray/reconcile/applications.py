"""Applications: who is deployed, built, declared and deleted, and the rows that make it durable.

A declared application keeps what its builder gave (`code_spec`) apart from what its config says (`config`): `spec` is
the one laid over the other, which whoever accepts it has computed. An application that a script has deployed has no
config. `accepted_rows` gives the rows that must be durable before an event may happen.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import msgspec

from eagleray.reconcile import events as e
from eagleray.reconcile.scaling import with_policy
from eagleray.reconcile.target import PROXY_KEYS, Target, proxy_target, targets_of
from eagleray.spec.application import ApplicationSpec
from eagleray.spec.overlay import scaled_count

if TYPE_CHECKING:
    from eagleray.reconcile.world import World

APPLICATIONS, META = "applications", "meta"
"""Names of tables of rows."""

DECLARED_ROW = "declared"
"""Row of META: what the config file says of the instance as a whole."""


class ApplicationRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """`spec` is the accepted `ApplicationSpec` as JSON, empty until a first build; `error` of the last build.

    `generation` counts what was accepted under the name, `spec_generation` is that of `spec`. `config` is what a config
    file says of it (JSON; empty: a script has deployed it), `code_spec` what was built from the code that
    `code_digest` names, `scaled` the replicas that were asked for from outside, by deployment. `spec_config` is what
    `config` was when `spec` was accepted; None while it still is that.
    """

    name: str
    generation: int
    spec_generation: int = 0
    deployed_at: float = 0.0
    spec: str = ""
    build: e.BuildRequest | None = None
    error: str = ""
    deleting: bool = False
    config: str = ""
    code_spec: str = ""
    code_digest: str = ""
    scaled: dict[str, int] = {}
    spec_config: str | None = None

    @property
    def config_in_force(self) -> str:
        """The config that belongs to `spec`, also while a newer one is being built or could not be."""
        return self.config if self.spec_config is None else self.spec_config


class _Scaler(msgspec.Struct):
    """What is read of a config or a spec."""

    external_scaler_enabled: bool = False


def is_scaled_outside(config: str) -> bool:
    """Whether a config, or a spec, leaves numbers of replicas to somebody outside. Both are JSON; empty: no."""
    return bool(config) and msgspec.json.decode(config, type=_Scaler).external_scaler_enabled


def accepted_row(
    world: World, event: e.Deployed | e.ImportRequested | e.Built | e.Declared | e.Scaled
) -> ApplicationRow:
    """The row that `event` gives its application; whoever accepts it makes the row durable before the event happens."""
    old = world.applications.get(event.name)
    generation = 1 if old is None else old.generation + 1
    if isinstance(event, e.Deployed):
        return ApplicationRow(event.name, generation, generation, event.at, spec=event.spec)
    if isinstance(event, e.ImportRequested):
        return _import_row(old, event, generation)
    if old is None:
        raise KeyError(event.name)
    if isinstance(event, e.Declared):
        return _declared_row(old, event, generation)
    if isinstance(event, e.Scaled):
        scaled = {**old.scaled, event.deployment: event.num_replicas}
        # Without a spec there is nothing to scale yet: the number waits for it.
        at = generation if old.spec and old.build is None else old.spec_generation
        return msgspec.structs.replace(
            old, scaled=scaled, spec_generation=at, generation=max(at, old.generation)
        )
    spec = event.spec or old.spec
    return msgspec.structs.replace(
        old,
        spec=spec,
        spec_generation=event.generation if event.spec else old.spec_generation,
        code_spec=event.code_spec,
        build=None,
        error=event.error,
        scaled=_still_scaled(old, old.config) if event.spec else old.scaled,
        spec_config=None if event.spec else old.spec_config,
    )


def _import_row(old: ApplicationRow | None, event: e.ImportRequested, generation: int) -> ApplicationRow:
    kept = old if old is not None and not old.deleting else ApplicationRow(event.name, 0)
    return msgspec.structs.replace(
        kept,
        generation=generation,
        deployed_at=event.at,
        build=event.request,
        error="",
        config=event.config,
        code_spec="",
        code_digest=event.code_digest,
        spec_config=kept.config_in_force if kept.spec else None,
    )


def _still_scaled(row: ApplicationRow, config: str) -> dict[str, int]:
    """What was asked for from outside, as long as that is wanted: nobody could take it back any more."""
    return row.scaled if is_scaled_outside(config) else {}


def _declared_row(old: ApplicationRow, event: e.Declared, generation: int) -> ApplicationRow:
    if not event.spec:
        # Its builder is at work and will read the new config, or the config does not fit the code.
        build = old.build
        if build is not None:  # nobody else may have the prefix meanwhile
            prefix = msgspec.json.decode(event.config).get("route_prefix", "/")
            build = msgspec.structs.replace(build, route_prefix=prefix)
        in_force = old.config_in_force if old.spec else None
        return msgspec.structs.replace(
            old, config=event.config, error=event.error, build=build, spec_config=in_force
        )
    return msgspec.structs.replace(
        old,
        generation=generation,
        spec_generation=generation,
        deployed_at=event.at,
        spec=event.spec,
        config=event.config,
        error="",
        scaled=_still_scaled(old, event.config),
        spec_config=None,
    )


def accepted_rows(world: World, event: e.Event) -> dict[tuple[str, str], bytes]:
    """(table, key) -> row: what must be durable before `event` may happen, for events that users cause."""
    if isinstance(event, e.Deployed | e.ImportRequested | e.Built | e.Declared | e.Scaled):
        return {(APPLICATIONS, event.name): msgspec.json.encode(accepted_row(world, event))}
    if isinstance(event, e.DeleteRequested):
        return {(APPLICATIONS, row.name): msgspec.json.encode(row) for row in _deleted(world, event)}
    if isinstance(event, e.InstanceDeclared):
        return {(META, DECLARED_ROW): msgspec.json.encode(event.text)}
    return {}


@functools.lru_cache(maxsize=256)
def blobs_of(spec: str) -> frozenset[str]:
    """Digests of the blobs that an `ApplicationSpec` (JSON) names; asked for again and again, so it is remembered."""
    return ApplicationSpec.from_json(spec.encode()).blobs


def current_targets(world: World, row: ApplicationRow) -> dict[str, Target]:
    """Deployment key -> target, with the capacity of the instance and what was scaled from outside."""
    targets = targets_of(ApplicationSpec.from_json(row.spec.encode()))
    config = row.config_in_force
    capacity = world.declared.get("target_capacity") if config else None
    policy = msgspec.json.decode(config).get("autoscaling_policy") if config else None
    if policy:
        kwargs = msgspec.json.encode(policy.get("policy_kwargs") or {}).decode()
        targets = {
            key: with_policy(target, policy["policy_function"], kwargs) for key, target in targets.items()
        }
    return {
        key: _scaled(target, row.scaled.get(key.partition("#")[2]), capacity)
        for key, target in targets.items()
    }


def _scaled(target: Target, count: int | None, capacity: float | None) -> Target:
    wanted = scaled_count(target.num_replicas, capacity) if count is None else count
    rules = target.rules
    if rules is not None:
        rules = None if count is not None else msgspec.structs.replace(rules, capacity=capacity)
    if wanted == target.num_replicas and rules == target.rules:
        return target
    config = msgspec.structs.replace(target.config, world_size=wanted)
    return msgspec.structs.replace(target, num_replicas=wanted, config=config, rules=rules)


# ---- events ----------------------------------------------------------------------------------------------------------


def deployed(world: World, event: e.Deployed, now: float) -> set[str]:
    return _take_over(world, accepted_row(world, event))


def declared(world: World, event: e.Declared, now: float) -> set[str]:
    row = accepted_row(world, event)
    if event.spec:
        return _take_over(world, row)
    world.put_application(row)
    return {event.name}


def scaled(world: World, event: e.Scaled, now: float) -> set[str]:
    row = accepted_row(world, event)
    if row.spec:
        return _take_over(world, row)
    world.put_application(row)
    return {event.name}


def instance_declared(world: World, event: e.InstanceDeclared, now: float) -> set[str]:
    before = world.declared
    world.declare(event.text)
    after = world.declared
    dirty = _log_proxies(world) if before.get("logging_config") != after.get("logging_config") else set()
    if before.get("target_capacity") == after.get("target_capacity"):
        return dirty
    for row in world.applications.values():  # also those whose newest code could not be built
        if row.spec and row.config_in_force and not row.deleting:
            dirty |= world.set_targets(row.name, row.spec_generation, current_targets(world, row))
    return dirty


def _log_proxies(world: World) -> set[str]:
    """Proxies are told of another logging_config while they run."""
    dirty: set[str] = set()
    for key in PROXY_KEYS:
        if (deployment := world.deployments.get(key)) is not None and (
            target := deployment.target
        ) is not None:
            deployment.target = proxy_target(target.options, key, world.declared.get("logging_config"))
            dirty.add(key)
    return dirty


def _take_over(world: World, row: ApplicationRow) -> set[str]:
    world.put_application(row)
    return world.set_targets(row.name, row.spec_generation, current_targets(world, row))


def import_requested(world: World, event: e.ImportRequested, now: float) -> set[str]:
    world.put_application(accepted_row(world, event))
    return {event.name}


def build_begun(world: World, event: e.BuildBegun, now: float) -> set[str]:
    world.building[event.name] = event.generation
    return set()


def built(world: World, event: e.Built, now: float) -> set[str]:
    row = world.applications.get(event.name)
    if row is None or row.deleting or row.generation != event.generation:
        return set()
    world.building.pop(event.name, None)
    row = accepted_row(world, event)
    if not event.spec:
        world.put_application(row)
        return {event.name}
    return _take_over(world, row)


def build_failed(world: World, event: e.BuildFailed, now: float) -> set[str]:
    row = world.applications.get(event.name)
    if row is None or row.generation != event.generation:
        return set()
    world.building.pop(event.name, None)
    world.put_application(msgspec.structs.replace(row, build=None, error=event.error))
    return {event.name}


def _deleted(world: World, event: e.DeleteRequested) -> list[ApplicationRow]:
    rows = (world.applications.get(name) for name in event.names)
    return [
        msgspec.structs.replace(row, deleting=True, build=None)
        for row in rows
        if row is not None and not row.deleting
    ]


def delete(world: World, event: e.DeleteRequested, now: float) -> set[str]:
    dirty: set[str] = set()
    for row in _deleted(world, event):
        world.put_application(row)
        dirty |= world.set_targets(row.name, row.generation, {})
    return dirty


def gone(world: World, event: e.ApplicationGone, now: float) -> set[str]:
    world.drop_application(event.name)
    world.building.pop(event.name, None)
    return {"#"}


HANDLERS: dict[type[e.Event], Any] = {
    e.Deployed: deployed,
    e.ImportRequested: import_requested,
    e.BuildBegun: build_begun,
    e.Built: built,
    e.BuildFailed: build_failed,
    e.Declared: declared,
    e.Scaled: scaled,
    e.InstanceDeclared: instance_declared,
    e.DeleteRequested: delete,
    e.ApplicationGone: gone,
}
"""Event -> what it does; each gives the keys that must be reconciled."""
