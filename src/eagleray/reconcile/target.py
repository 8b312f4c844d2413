"""What the replicas of one deployment should be, flattened from the declared spec once, when it is deployed.

Two digests decide what a change does: `version` covers all that needs new processes, `config` all that live replicas
can be told. What is in neither concerns the controller and the routing table only.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, Literal

import msgspec

from eagleray.reconcile.placement import UNIT, Demand
from eagleray.reconcile.recycling import request_limit
from eagleray.reconcile.scaling import ScalingRules, rules_of
from eagleray.spec.application import ApplicationSpec, BoundDeployment
from eagleray.spec.base import Effect, effect_of
from eagleray.spec.deployment import DeploymentSpec, ReplicaResources
from eagleray.wire.control import ReplicaLaunch

PROXY_KEY = "#http"
"""The system deployment of HTTP proxies; no application can have an empty name."""

GRPC_PROXY_KEY = "#grpc"
"""That of gRPC proxies, which only exists where servicer functions are configured."""

PROXY_KEYS = (PROXY_KEY, GRPC_PROXY_KEY)


class RunningConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a live replica can be told by `reconfigure`. `user_config` and `logging` are JSON, empty for none."""

    user_config: str = ""
    max_ongoing_requests: int = 5
    max_ongoing_requests_given: bool = False
    """Else a replica may take more, when its batches hold more."""
    graceful_shutdown_wait_loop_s: float = 2.0
    logging: str = ""
    route_prefix: str | None = None
    world_size: int = 1


class Target(msgspec.Struct, frozen=True, omit_defaults=True):
    """The goal for one deployment. `endless`: failed starts are retried for ever (proxies)."""

    key: str
    version: str
    config: RunningConfig = RunningConfig()
    kind: Literal["replica", "proxy"] = "replica"
    num_replicas: int = 1
    code_version: str = ""
    import_target: str = ""
    code: str = ""
    init: str = ""
    demand: Demand = Demand()
    env_vars: dict[str, str] = {}
    working_dir: str = ""
    environment: str = ""
    """What must be made before a replica can start (`RuntimeEnv.recipe`); its working directory counts then."""
    max_queued_requests: int = -1
    graceful_shutdown_timeout_s: float = 20.0
    health_check_period_s: float = 10.0
    health_check_timeout_s: float = 30.0
    max_constructor_retry_count: int = 20
    rolling_update_percentage: float = 0.2
    max_surge_percent: int = 0
    auto_rollback: bool = False
    """An update that is given up is taken back: the last good target is the goal again."""
    max_requests_per_replica: int | None = None
    max_replica_age_s: float | None = None
    max_replica_rss_bytes: int | None = None
    backpressure_status: int = 503
    backpressure_retry_after_s: float | None = None
    ingress: bool = False
    is_function: bool = False
    sys_path: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    options: dict[str, Any] = {}
    endless: bool = False
    rules: ScalingRules | None = None
    """By which load changes `num_replicas`; None: it is fixed."""

    @property
    def failure_budget(self) -> int:
        """Failed starts in a row after which a version that never came up is given up."""
        return min(self.max_constructor_retry_count, 3 * max(self.num_replicas, 1))

    @property
    def batch(self) -> int:
        """Replicas that an update may have in transition at once: new ones that start, and old ones that leave."""
        return max(int(self.rolling_update_percentage * self.num_replicas), 1)

    @property
    def surge(self) -> int:
        """Replicas that there may be above `num_replicas` during an update. New ones come first, so at least one."""
        return math.ceil(self.max_surge_percent * self.num_replicas / 100) or self.batch

    @property
    def blobs(self) -> frozenset[str]:
        return frozenset((self.code, self.init)) - {""}

    def launch(self, replica_id: str, config: RunningConfig, init: bytes, **rest: Any) -> ReplicaLaunch:
        """What a replica is told when it starts; `rest` are the fields that depend on where it runs."""
        app, _, deployment = self.key.partition("#")
        return ReplicaLaunch(
            app=app,
            deployment=deployment,
            replica_id=replica_id,
            version=self.code_version,
            init=init,
            user_config=config.user_config.encode(),
            max_ongoing_requests=config.max_ongoing_requests,
            max_ongoing_requests_given=config.max_ongoing_requests_given,
            max_requests=request_limit(replica_id, self.max_requests_per_replica),
            graceful_shutdown_timeout_s=self.graceful_shutdown_timeout_s,
            is_ingress=self.ingress,
            route_prefix=config.route_prefix,
            deployment_config=self.options,
            **rest,
        )


def targets_of(spec: ApplicationSpec) -> dict[str, Target]:
    """Deployment key -> target, in the order of the spec."""
    return {f"{spec.name}#{bound.name}": _target(spec, bound) for bound in spec.deployments}


def proxy_target(options: dict[str, Any], key: str = PROXY_KEY, logging: Any = None) -> Target:
    """A system deployment: one proxy; checked and replaced like a replica, never given up.

    `logging` is the logging_config that a config file has for the whole instance.
    """
    return Target(
        key=key,
        version=_digest(options),
        config=RunningConfig(logging=_json(logging) if logging else ""),
        kind="proxy",
        health_check_timeout_s=10.0,
        options=options,
        endless=True,
    )


def _target(app: ApplicationSpec, bound: BoundDeployment) -> Target:
    spec = bound.spec
    resources = spec.ray_actor_options
    logging = spec.logging_config or app.logging_config
    environment = resources.runtime_env
    backpressure = spec.backpressure_config
    rules = rules_of(spec.autoscaling_config)
    num_replicas = spec.num_replicas if rules is None else (rules.initial or rules.low)
    return Target(
        key=f"{app.name}#{bound.name}",
        version=_restart_digest(app, bound),
        config=RunningConfig(
            user_config="" if spec.user_config is None else _plain_json(spec.user_config),
            max_ongoing_requests=spec.max_ongoing_requests,
            max_ongoing_requests_given="max_ongoing_requests" in spec.given,
            graceful_shutdown_wait_loop_s=spec.graceful_shutdown_wait_loop_s,
            logging="" if logging is None else _json(logging.model_dump(mode="json")),
            route_prefix=app.route_prefix if bound.ingress else None,
            world_size=num_replicas,
        ),
        num_replicas=num_replicas,
        code_version=bound.version,
        import_target=bound.code.target,
        code=bound.code.code,
        init=bound.init,
        demand=_demand(resources),
        env_vars=dict(environment.env_vars) if environment else {},
        working_dir=(environment.working_dir or "") if environment else "",
        environment=environment.recipe() if environment else "",
        max_queued_requests=spec.max_queued_requests,
        graceful_shutdown_timeout_s=spec.graceful_shutdown_timeout_s,
        health_check_period_s=spec.health_check_period_s,
        health_check_timeout_s=spec.health_check_timeout_s,
        max_constructor_retry_count=spec.max_constructor_retry_count,
        rolling_update_percentage=spec.rolling_update_percentage,
        max_surge_percent=spec.max_surge_percent,
        auto_rollback=app.source == "declarative" if spec.auto_rollback is None else spec.auto_rollback,
        max_requests_per_replica=spec.max_requests_per_replica,
        max_replica_age_s=spec.max_replica_age_s,
        max_replica_rss_bytes=spec.max_replica_rss_bytes,
        backpressure_status=backpressure.status_code if backpressure else 503,
        backpressure_retry_after_s=backpressure.retry_after_s if backpressure else None,
        ingress=bound.ingress,
        is_function=bound.is_function,
        sys_path=tuple(app.sys_path),
        children=tuple(f"{app.name}#{child}" for child in bound.children),
        options=spec.model_dump(mode="json"),
        rules=rules,
    )


def _demand(resources: ReplicaResources) -> Demand:
    return Demand(
        cpus=resources.num_cpus,
        explicit_cpus="num_cpus" in resources.model_fields_set,
        gpus=round(resources.num_gpus * UNIT),
        memory=int(resources.memory),
        custom={name: round(amount * UNIT) for name, amount in resources.resources.items() if amount},
    )


def _restart_digest(app: ApplicationSpec, bound: BoundDeployment) -> str:
    dumped = bound.spec.model_dump(mode="json")
    restarting = {
        name: dumped[name]
        for name in DeploymentSpec.model_fields
        if effect_of(DeploymentSpec, name) is Effect.RESTART
    }
    code = bound.code.model_dump()
    return _digest([bound.version, code, bound.init, bound.ingress, app.sys_path, restarting])


def _digest(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()[:16]


def _json(value: Any) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()


def _plain_json(value: Any) -> str:
    """With NaN and infinities, of which msgspec would make null."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
