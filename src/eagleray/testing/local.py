"""The engine of local testing mode: applications as threads of this process, with everything else as in production.

One thread carries the proxy, the driver's router and the replicas' control; each replica has the loop and threads for
user code that it would have in a process of its own. Calls pass the same routers, sessions, slots and codecs over
`rpc.in_process`, so arguments are pickled, limits are strict and errors are the same. What there is not: several
replicas of a deployment, health checks, restarts, environments of replicas, gRPC and WebSocket.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from eagleray.base.errors import DeployError, EaglerayError
from eagleray.base.ids import new_unique_id
from eagleray.base.tasks import Tasks
from eagleray.controller.listing import deployment_entry
from eagleray.http.connections import Connections
from eagleray.http.limits import HttpLimits
from eagleray.proxy.server import ProxyServer
from eagleray.reconcile.target import Target, targets_of
from eagleray.routing.table import DeploymentEntry, ReplicaEntry, Route, RoutingTable
from eagleray.rpc.in_process import LocalSocket
from eagleray.serve.local import Code
from eagleray.spec.application import ApplicationSpec
from eagleray.spec.options import HTTPOptions
from eagleray.spec.status import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
    ReplicaState,
    ServeStatus,
)
from eagleray.testing.replica import LocalReplica
from eagleray.testing.routing import LocalRouter, LocalRuntime, LocalWorld

T = TypeVar("T")

_HTTP = "http"
_JOIN_S = 5.0


@dataclass(frozen=True)
class _Running:
    """A deployment and its one replica."""

    target: Target
    replica: LocalReplica
    max_ongoing: int

    @property
    def entry(self) -> DeploymentEntry:
        launch = self.replica.launch
        return deployment_entry(
            self.target, (ReplicaEntry(launch.replica_id, self.replica.address, self.max_ongoing),)
        )


class LocalEngine:
    """Started by being made, ended by `close`. Its methods block, and may be called in any thread but its own."""

    def __init__(self, http: HTTPOptions) -> None:
        self._options = http.model_dump(mode="json", exclude_none=True)
        self._world = LocalWorld()
        self._apps: dict[str, tuple[ApplicationSpec, float]] = {}
        self._running: dict[str, _Running] = {}
        self._table = RoutingTable()
        self._followers: set[LocalRuntime] = set()
        self._lock = threading.Lock()
        started: Future[LocalRuntime] = Future()
        self._thread = threading.Thread(
            target=self._main, args=(started,), name="eagleray-local", daemon=True
        )
        self._thread.start()
        self.runtime = started.result()

    # ---- from any thread -------------------------------------------------------------------------------------

    def deploy(self, specs: Sequence[ApplicationSpec], blobs: Mapping[str, bytes], code: Code) -> None:
        """See `serve.local.Engine`."""
        with self._lock:
            self._wait(self._deploy(specs, blobs, code))

    def delete(self, name: str) -> None:
        """See `serve.local.Engine`."""
        with self._lock:
            self._wait(self._delete(name))

    def status(self) -> ServeStatus:
        """See `serve.local.Engine`."""
        return ServeStatus(applications={name: _status(*app) for name, app in dict(self._apps).items()})

    def connect(self) -> LocalSocket:
        """See `serve.local.Engine`."""
        return self._world.connect(_HTTP)

    def close(self) -> None:
        """See `serve.local.Engine`."""
        for name in list(self._apps):
            self.delete(name)
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_JOIN_S)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _follow(self, runtime: LocalRuntime) -> None:
        """On the runtime's thread. Added first, so that no table is missed; an older one is ignored."""
        self._followers.add(runtime)
        runtime.update_table(self._table)

    # ---- the thread ------------------------------------------------------------------------------------------

    def _main(self, started: Future[LocalRuntime]) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve(started))

    async def _serve(self, started: Future[LocalRuntime]) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._tasks = Tasks("local testing")
        self._proxy = LocalRouter(self._world, eager_ingress=True)
        options = self._options
        connections = Connections(HttpLimits.from_options(options))
        server = ProxyServer(
            self._proxy,
            connections,
            root_path=options.get("root_path") or "",
            request_timeout_s=options.get("request_timeout_s"),
        )
        self._world.listen(_HTTP, loop, server.connection)
        runtime = LocalRuntime(loop, "driver", self._world, self._follow)
        runtime.watch()
        started.set_result(runtime)
        try:
            await self._stop.wait()
        finally:
            self._world.forget(_HTTP)
            await self._tasks.close()
            connections.close()
            await self._proxy.close()
            await runtime.close()

    async def _deploy(self, specs: Sequence[ApplicationSpec], blobs: Mapping[str, bytes], code: Code) -> None:
        self._check_prefixes(specs)
        targets = {key: target for spec in specs for key, target in targets_of(spec).items()}
        before = {key: self._running[key] for key in targets if key in self._running}
        made = {key: self._make(target, blobs, code) for key, target in targets.items()}
        starting = [self._tasks.start(self._bring_up(one), name=f"start {key}") for key, one in made.items()]
        errors = await asyncio.gather(*starting)
        failed = [(key, error) for key, error in zip(made, errors, strict=True) if error]
        if failed:
            for key in made:
                self._running.pop(key, None)
            self._running.update(before)
            self._publish()
            await self._end(made.values())
            app, _, deployment = failed[0][0].partition("#")
            raise DeployError(
                f"Deploying application {app} failed: deployment '{deployment}': {failed[0][1]}"
            )
        now = time.time()
        for spec in specs:
            self._apps[spec.name] = spec, now
            mine = {bound.name for bound in spec.deployments}
            for key in [key for key in self._running if key.partition("#")[0] == spec.name]:
                if key.partition("#")[2] not in mine:
                    before[key] = self._running.pop(key)
        self._publish()
        await self.runtime.settled()
        await self._proxy.settled()
        await self._end(before.values())

    def _check_prefixes(self, specs: Sequence[ApplicationSpec]) -> None:
        taken = {spec.route_prefix: name for name, (spec, _) in self._apps.items() if spec.route_prefix}
        for spec in specs:
            if spec.route_prefix is None:
                continue
            owner = taken.get(spec.route_prefix, spec.name)
            if owner != spec.name:
                raise EaglerayError(
                    f'Prefix {spec.route_prefix} is being used by application "{owner}". Failed to deploy application '
                    f'"{spec.name}".'
                )
            taken[spec.route_prefix] = spec.name

    def _make(self, target: Target, blobs: Mapping[str, bytes], code: Code) -> _Running:
        app, _, deployment = target.key.partition("#")
        config = target.config
        launch = target.launch(new_unique_id(), config, init=blobs[target.init] if target.init else b"")
        replica = LocalReplica(launch, code[app][deployment], self._world, self._follow)
        return _Running(target, replica, config.max_ongoing_requests)

    async def _bring_up(self, one: _Running) -> str:
        """Calls come as soon as it is up: constructors of others may wait for it."""
        error = await one.replica.start()
        if not error:
            self._running[one.target.key] = one
            self._publish()
        return error

    async def _delete(self, name: str) -> None:
        self._apps.pop(name, None)
        ended = [self._running.pop(key) for key in list(self._running) if key.partition("#")[0] == name]
        self._publish()
        await self._end(ended)

    async def _end(self, replicas: Any) -> None:
        ending = [self._tasks.start(one.replica.stop(), name="stop a replica") for one in replicas]
        for runtime in [one.replica.runtime for one in replicas]:
            self._followers.discard(runtime)
        if ending:
            await asyncio.wait(ending)

    def _publish(self) -> None:
        """Tells all who route."""
        ingress = {name: f"{name}#{spec.ingress.name}" for name, (spec, _) in self._apps.items()}
        routes = [
            Route(prefix=spec.route_prefix, app=name, deployment=ingress[name])
            for name, (spec, _) in self._apps.items()
            if spec.route_prefix is not None
        ]
        self._table = table = RoutingTable(
            version=self._table.version + 1,
            routes=tuple(routes),
            deployments={key: one.entry for key, one in self._running.items()},
            ingress=ingress,
            populated=self._table.populated or bool(routes),
        )
        self._proxy.update(table)
        for runtime in tuple(self._followers):
            runtime.post(runtime.update_table, table)


def _status(spec: ApplicationSpec, deployed_s: float) -> ApplicationStatusOverview:
    return ApplicationStatusOverview(
        ApplicationStatus.RUNNING,
        last_deployed_time_s=deployed_s,
        deployments={
            bound.name: DeploymentStatusOverview(
                DeploymentStatus.HEALTHY,
                DeploymentStatusTrigger.CONFIG_UPDATE_COMPLETED,
                {ReplicaState.RUNNING: 1},
            )
            for bound in spec.deployments
        },
    )
