"""Series that say how things are: of deployments, replicas, proxies and autoscaling. Made when somebody reads.

Numbers of statuses are Ray's, so that its boards' value mappings hold.
"""

from __future__ import annotations

from collections.abc import Callable

from eagleray.base.metrics import GAUGE, Sample, Snapshot
from eagleray.controller.autoscaling import Autoscaling
from eagleray.controller.places import NODE_LABELS, node_labels
from eagleray.reconcile.instance import InstanceState
from eagleray.reconcile.status import application_overview, proxy_status
from eagleray.reconcile.target import PROXY_KEYS
from eagleray.reconcile.world import World
from eagleray.spec.status import ApplicationStatus, DeploymentStatus, ProxyStatus

DEPLOYMENT_NUMBERS = {
    DeploymentStatus.DEPLOY_FAILED: 1,
    DeploymentStatus.UNHEALTHY: 2,
    DeploymentStatus.UPDATING: 3,
    DeploymentStatus.UPSCALING: 4,
    DeploymentStatus.DOWNSCALING: 5,
    DeploymentStatus.HEALTHY: 6,
}
APPLICATION_NUMBERS = {
    ApplicationStatus.DEPLOY_FAILED: 1,
    ApplicationStatus.UNHEALTHY: 2,
    ApplicationStatus.NOT_STARTED: 3,
    ApplicationStatus.DELETING: 4,
    ApplicationStatus.DEPLOYING: 5,
    ApplicationStatus.RUNNING: 6,
}
PROXY_NUMBERS = {
    ProxyStatus.STARTING: 1,
    ProxyStatus.HEALTHY: 2,
    ProxyStatus.UNHEALTHY: 3,
    ProxyStatus.DRAINING: 4,
    ProxyStatus.DRAINED: 5,
}

_DEPLOYMENT = ("deployment", "application")
_REPLICA = ("deployment", "replica", "application")
_UP = (InstanceState.RUNNING, InstanceState.UPDATING, InstanceState.RECOVERING)


class WorldSeries:
    """Reads the world. `read` gives the snapshots."""

    def __init__(self, world: World, autoscaling: Autoscaling) -> None:
        self._world = world
        self._autoscaling = autoscaling

    def read(self) -> list[Snapshot]:
        return [
            *self._statuses(),
            self._replicas(),
            self._proxies(),
            *self._rollouts(),
            *self._scaling(),
        ]

    def _statuses(self) -> list[Snapshot]:
        applications, deployments = [], []
        for name in self._world.applications:
            overview = application_overview(self._world, name)
            applications.append(Sample((name,), APPLICATION_NUMBERS[overview.status]))
            deployments += [
                Sample((deployment, name), DEPLOYMENT_NUMBERS[one.status])
                for deployment, one in overview.deployments.items()
            ]
        numbers = "1 DEPLOY_FAILED, 2 UNHEALTHY, 3 {}, 4 {}, 5 {}, 6 {}."
        return [
            _gauge(
                "serve_application_status",
                "Status: " + numbers.format("NOT_STARTED", "DELETING", "DEPLOYING", "RUNNING"),
                ("application",),
                applications,
            ),
            _gauge(
                "serve_deployment_status",
                "Status: " + numbers.format("UPDATING", "UPSCALING", "DOWNSCALING", "HEALTHY"),
                _DEPLOYMENT,
                deployments,
            ),
        ]

    def _replicas(self) -> Snapshot:
        samples = []
        for one in self._world.instances.values():
            if one.row.kind == "replica" and one.state in _UP:
                app, _, deployment = one.row.owner.partition("#")
                is_healthy = one.is_routed and not one.misses
                samples.append(Sample((deployment, one.row.unique_id, app), float(is_healthy)))
        return _gauge(
            "serve_deployment_replica_healthy", "1: the replica serves; 0: it is not well.", _REPLICA, samples
        )

    def _proxies(self) -> Snapshot:
        numbers = [
            PROXY_NUMBERS[proxy_status(one.state)]
            for key in PROXY_KEYS
            for one in self._world.instances_of(key)
        ]
        samples = [Sample(node_labels(), min(numbers))] if numbers else []
        return _gauge(
            "serve_proxy_status",
            "Status of the proxies: 1 STARTING, 2 HEALTHY, 3 UNHEALTHY, 4 DRAINING, 5 DRAINED.",
            NODE_LABELS,
            samples,
        )

    def _rollouts(self) -> list[Snapshot]:
        """How many replicas run the version that is wanted, and how many another one."""
        wanted, current, former = [], [], []
        for key, deployment in self._world.deployments.items():
            target = deployment.target
            if target is None or key in PROXY_KEYS:
                continue
            app, _, name = key.partition("#")
            up = [one.row.version for one in self._world.instances_of(key) if one.state in _UP]
            wanted.append(Sample((name, app), target.num_replicas))
            current.append(Sample((name, app), up.count(target.version)))
            former.append(Sample((name, app), len(up) - up.count(target.version)))
        return [
            _gauge("eagleray_rollout_wanted_replicas", "Replicas that are wanted.", _DEPLOYMENT, wanted),
            _gauge(
                "eagleray_rollout_current_replicas",
                "Replicas that run the newest version.",
                _DEPLOYMENT,
                current,
            ),
            _gauge(
                "eagleray_rollout_former_replicas", "Replicas that run another version.", _DEPLOYMENT, former
            ),
        ]

    def _scaling(self) -> list[Snapshot]:
        found = [(key, self._autoscaling.numbers(key)) for key in self._autoscaling.rules]

        def series(name: str, help: str, choose: Callable[[dict[str, float]], float]) -> Snapshot:
            samples = []
            for key, numbers in found:
                app, _, deployment = key.partition("#")
                samples.append(Sample((deployment, app), choose(numbers)))
            return _gauge(f"serve_autoscaling_{name}", help, _DEPLOYMENT, samples)

        policies = []
        for key, numbers in found:
            app, _, deployment = key.partition("#")
            scope = "application" if self._autoscaling.rules[key].policy_kind == "app" else "deployment"
            policies.append(Sample((deployment, app, scope), numbers["policy_ms"]))
        return [
            _gauge(
                "serve_autoscaling_policy_execution_time_ms",
                "How long the last decision took, in milliseconds.",
                (*_DEPLOYMENT, "policy_scope"),
                policies,
            ),
            series("target_replicas", "Replicas that autoscaling has decided on.", lambda one: one["target"]),
            series(
                "desired_replicas",
                "Replicas that the load asks for, before bounds and delays.",
                lambda one: one["desired"],
            ),
            series(
                "total_requests",
                "Requests that wait or run, over the window that decides.",
                lambda one: one["total"],
            ),
            series(
                "target_ongoing_requests", "Requests that a replica should have.", lambda one: one["ongoing"]
            ),
        ]


def _gauge(name: str, help: str, labels: tuple[str, ...], samples: list[Sample]) -> Snapshot:
    return Snapshot(name, GAUGE, help, labels, (), samples)
