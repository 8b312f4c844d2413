"""What a config file, or somebody outside, wants of this instance: checked, made durable, then left to become true.

Whoever puts the same config again changes nothing and costs nothing. Whatever is refused has changed nothing.
`Declarations` is what the control calls and the REST API share; it knows neither.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from eagleray.base.clock import wall_time_s
from eagleray.base.errors import ConfigError, NotFoundError, PreconditionError
from eagleray.base.secrets import HIDDEN, hide, restore
from eagleray.controller import intake
from eagleray.controller.controller import Admission, Controller, Prepare
from eagleray.controller.details import Details
from eagleray.controller.logging import follow_declared
from eagleray.reconcile import events as e
from eagleray.reconcile.applications import ApplicationRow, is_scaled_outside
from eagleray.reconcile.world import World
from eagleray.spec.application import ApplicationSpec
from eagleray.spec.config import Config, HTTPOptionsSchema, check_depth, gRPCOptionsSchema, read_config
from eagleray.spec.environment import is_archive
from eagleray.spec.imports import config_imports
from eagleray.spec.options import TracingConfig
from eagleray.spec.problems import show
from eagleray.wire.control import NodeConfig

_TELLING = ("target_capacity", "logging_config")
"""Keys of a file that concern all its applications."""

UNNAMED = "the config"
"""What a config is called in messages when it is no file of somebody's command line: it came through the REST API."""


class Declarations:
    """One per controller; may be called at any time. What changes something returns once that is durable."""

    def __init__(self, controller: Controller, config: NodeConfig, details: Details) -> None:
        self._controller = controller
        self._details = details
        self._last: tuple[tuple[str, str], Config] | None = None
        self._config = config
        self.on_applied: Callable[[Iterable[str], str], object] = _unheard
        """Told of which applications a config was accepted that changes something, and who has sent it."""
        self._directory = os.getcwd()
        """Applications without a `working_dir` are imported from where the instance was started."""

    @property
    def _world(self) -> World:
        return self._controller.world

    async def apply(
        self,
        config: Mapping[str, Any],
        merge: bool = False,
        *,
        source: str = UNNAMED,
        sys_path: Iterable[str] = (),
    ) -> list[str]:
        """Makes `config` (ServeDeploySchema as it is in the file) what is wanted; returns warnings, one a line.

        Applications of a former config that this one does not name are deleted unless `merge`. ConfigError lists all
        mistakes of the file; nothing has changed then. NotRunningError while the instance is shutting down.
        """
        read = await asyncio.to_thread(self._read, config, source)
        prepare = self._admit(read, merge, tuple(sys_path) or (self._directory,))
        if not self._controller.changes_nothing(prepare):
            await self._controller.admit(prepare)
            follow_declared(self._world, self._config)
            self.on_applied(read.applications, source)
        return [*read.warnings, *self._fixed_at_start(read)]

    async def apply_application(
        self, name: str, config: Mapping[str, Any], *, source: str = UNNAMED
    ) -> list[str]:
        """Makes `config` (one application of a file) that of the application `name`; leaves all others alone."""
        if not isinstance(config, dict) or config.get("name", name) != name:
            raise ConfigError(f"name: must be '{name}', as the application is called that is being deployed")
        return await self.apply({"applications": [{**config, "name": name}]}, merge=True, source=source)

    async def delete(self, names: Iterable[str]) -> None:
        """Begins to delete applications, however they were deployed; returns when that is durable."""
        wanted = tuple(names)
        await self._controller.admit(lambda world: Admission([e.DeleteRequested(wanted)]))

    async def scale(self, app: str, deployment: str, num_replicas: int) -> None:
        """Sets the number of replicas of a deployment from outside; it stays as long as external_scaler_enabled.

        NotFoundError for an unknown one, PreconditionError when it goes, or when its application's config does not
        have `external_scaler_enabled`.
        """
        await self._controller.admit(lambda world: _admit_scale(world, app, deployment, num_replicas))

    async def shutdown(self) -> None:
        """Begins to end the instance: applications, then proxies, then everything."""
        self._controller.post(e.ShutdownRequested())

    async def wait_routed(self) -> None:
        """Returns when all routers know what runs now, so that a request sent then is answered; see `Publisher`."""
        publisher = self._controller.publisher
        await publisher.wait_known(publisher.table.version)

    def applied_config(self) -> dict[str, dict[str, Any]]:
        """What the user wrote of each declared application, by name, without secrets; see `base.secrets`."""
        return {
            name: hide(json.loads(row.config))
            for name, row in self._world.applications.items()
            if row.config and not row.deleting
        }

    def details(self, api_type: str | None = None) -> dict[str, Any]:
        """`ServeInstanceDetails` as JSON types, without secrets; see `Details.read`."""
        found: dict[str, Any] = hide(self._details.read(api_type))
        return found

    def _read(self, data: Mapping[str, Any], source: str) -> Config:
        """As `read_config`; what was read last is not read again, for tools put the same file every few seconds.

        Runs in a thread, since a large file takes long; several may be read at the same time.
        """
        check_depth(data, source)
        text = _text(data)  # for Python true is 1, and 1 is 1.0
        last = self._last
        if last is None or last[0] != (text, source):
            self._last = last = (text, source), read_config(json.loads(text), source)
        return last[1]

    # ---- checks -----------------------------------------------------------------------------------------------

    def _admit(self, config: Config, merge: bool, sys_path: tuple[str, ...]) -> Prepare:
        def prepare(world: World) -> Admission:
            intake.check_open(world)
            former = {
                name: row for name, row in world.applications.items() if row.config and not row.deleting
            }
            wanted = _restored(config, world)
            others = {name: row for name, row in former.items() if name not in wanted}
            going = () if merge else tuple(others)
            prefixes = {one.name: one.route_prefix for one in config.schema.applications}
            intake.check_prefixes(world, prefixes, going)
            events: list[e.Event] = []
            declared = _instance_keys(config.data, world.declared if merge else {})
            is_new = any(declared.get(key) != world.declared.get(key) for key in _TELLING)
            if declared != world.declared:
                events.append(e.InstanceDeclared(_text(declared)))
            logging = declared.get("logging_config")
            for name, written in wanted.items():
                events += _declare(world, name, written, sys_path, logging, is_new)
            if merge and is_new:
                for row in others.values():
                    events += _lay_over(row, row.config, logging)
            if going:
                events.append(e.DeleteRequested(going))
            return Admission(events)

        return prepare

    def _fixed_at_start(self, config: Config) -> list[str]:
        """Options of the instance that are other than what it has been started with."""
        warnings = []
        http = {**self._config.http_options, "host": self._config.http_host, "port": self._config.http_port}
        for section, running, model in (
            ("http_options", http, HTTPOptionsSchema),
            ("grpc_options", self._config.grpc_options, gRPCOptionsSchema),
            ("tracing_config", self._config.tracing_config, TracingConfig),
        ):
            written = config.data.get(section) or {}
            for key, value in written.items():
                default = model.model_fields[key].get_default(call_default_factory=True)
                if value != running.get(key, default) and "password" not in key:
                    warnings.append(
                        f"{section}.{key}: is fixed when the instance starts, where it is "
                        f"{running.get(key, default)!r}; {value!r} has no effect until the next start"
                    )
        return warnings


def _unheard(*_: object) -> None:
    """Nobody listens."""


def _declare(
    world: World,
    name: str,
    written: Mapping[str, Any],
    sys_path: tuple[str, ...],
    logging: Any,
    is_new: bool,
) -> list[e.Event]:
    """What has to happen so that the application becomes what is written; nothing, when it is that already."""
    environment = written.get("runtime_env") or {}
    if directory := environment.get("working_dir"):
        sys_path = () if is_archive(directory) else (str(directory),)
    code = {key: written.get(key) for key in ("import_path", "args", "runtime_env", "autoscaling_policy")}
    imports = config_imports(written)
    if imports:  # another path is looked for by another build
        code["imports"] = imports
    digest = hashlib.sha256(_text([code, sys_path]).encode()).hexdigest()[:16]
    text = json.dumps(written)
    row = world.applications.get(name)
    is_known = row is not None and not row.deleting and row.config and row.code_digest == digest
    # What was given up is tried anew, from its code on: whoever deploys it again has mended something.
    if row is not None and is_known and (row.build is not None or not _was_given_up(world, name)):
        if (
            _text(json.loads(row.config)) == _text(written)
            and not is_new
            and (row.build is not None or row.code_spec)
        ):
            return []
        if row.build is not None:
            return [e.Declared(name, text, wall_time_s())]
        if row.code_spec:
            return _lay_over(row, text, logging)
    request = e.BuildRequest(
        import_path=written["import_path"],
        args=_text(written.get("args") or {}),
        route_prefix=written.get("route_prefix", "/"),
        sys_path=sys_path,
        runtime_env=_text(environment) if environment else "",
        imports=imports,
    )
    return [e.ImportRequested(name, request, wall_time_s(), config=text, code_digest=digest)]


def _restored(config: Config, world: World) -> dict[str, dict[str, Any]]:
    """The applications of a config, with the values that are kept of what it shows as hidden."""
    found, problems = {}, []
    for name, written in config.applications.items():
        row = world.applications.get(name)
        kept = json.loads(row.config) if row is not None and row.config else {}
        found[name], missing = restore(written, kept)
        problems += [f"applications[{name!r}].{show(path)}" for path in missing]
    if problems:
        raise ConfigError(
            f"These values are {HIDDEN}, as configs are shown, and nothing is kept that they could stand for; write "
            "them anew:\n  " + "\n  ".join(problems)
        )
    return found


def _was_given_up(world: World, name: str) -> bool:
    return any(world.deployments[key].row.rollout.halted for key in world.deployments_of(name))


def _lay_over(row: ApplicationRow, config: str, logging: Any) -> list[e.Event]:
    if not row.code_spec:  # a builder is at work, or has failed
        return []
    spec, error = intake.lay_over(ApplicationSpec.from_json(row.code_spec.encode()), config, logging)
    return [e.Declared(row.name, config, wall_time_s(), spec, error)]


def _admit_scale(world: World, app: str, deployment: str, num_replicas: int) -> Admission:
    row = world.applications.get(app)
    found = world.deployments.get(f"{app}#{deployment}")
    if row is None or found is None:
        raise NotFoundError("Application or Deployment not found")
    if row.deleting or found.target is None:
        raise PreconditionError("Deployment is deleted")
    if not is_scaled_outside(row.config or row.spec):
        raise PreconditionError(
            f"Application '{app}' does not take its number of replicas from outside: set "
            f"external_scaler_enabled: true in its config, or in serve.run."
        )
    if row.scaled.get(deployment) == num_replicas:
        return Admission([])
    return Admission([e.Scaled(app, deployment, num_replicas)])


def _instance_keys(data: Mapping[str, Any], former: Mapping[str, Any]) -> dict[str, Any]:
    return {**former, **{key: value for key, value in data.items() if key != "applications"}}


def _text(value: Any) -> str:
    """JSON that is equal for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
