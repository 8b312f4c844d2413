"""`ServeInstanceDetails`: what GET /api/serve/applications/ answers, for those who want it as objects.

Fields that a later version adds are kept out, so that older readers read newer instances. Names are Ray Serve's.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from eagleray.spec.base import SpecModel
from eagleray.spec.status import (
    ApplicationStatus,
    DeploymentStatus,
    DeploymentStatusTrigger,
    ProxyStatus,
    ReplicaState,
)


class _Detail(SpecModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ServeActorDetails(_Detail):
    """A process: where it is, and where its log is. Names are those that Ray has of actors."""

    node_id: str | None = None
    node_ip: str | None = None
    node_instance_id: str | None = None
    actor_id: str | None = None
    actor_name: str | None = None
    worker_id: str | None = None
    log_file_path: str | None = None


class ReplicaDetails(ServeActorDetails):
    """`start_time_s` is Unix time, 0 before the process was started."""

    replica_id: str
    state: ReplicaState
    pid: int | None = None
    start_time_s: float = 0.0


class ProxyDetails(ServeActorDetails):
    """One proxy."""

    status: ProxyStatus


class DeploymentDetails(_Detail):
    """One deployment; `deployment_config` holds all its options, those not given among them."""

    name: str
    status: DeploymentStatus
    status_trigger: DeploymentStatusTrigger
    message: str = ""
    deployment_config: dict[str, Any] = Field(default_factory=dict)
    target_num_replicas: int
    required_resources: dict[str, float] = Field(default_factory=dict)
    replicas: list[ReplicaDetails] = Field(default_factory=list)
    recent_dead_replicas: list[ReplicaDetails] = Field(default_factory=list)
    autoscaling_detail: dict[str, Any] | None = None


class ApplicationDetails(_Detail):
    """One application; `deployed_app_config` is what its config file says, None when a script has deployed it."""

    name: str
    route_prefix: str | None = None
    docs_path: str | None = None
    status: ApplicationStatus
    message: str = ""
    last_deployed_time_s: float = 0.0
    deployed_app_config: dict[str, Any] | None = None
    source: Literal["imperative", "declarative", "unknown"] = "unknown"
    external_scaler_enabled: bool = False
    deployment_topology: dict[str, Any] | None = None
    deployments: dict[str, DeploymentDetails] = Field(default_factory=dict)


class TargetDetails(_Detail):
    """An address that takes traffic."""

    ip: str
    port: int
    instance_id: str = ""
    name: str = ""


class TargetGroup(_Detail):
    """Addresses that take the traffic of `route_prefix`."""

    targets: list[TargetDetails] = Field(default_factory=list)
    route_prefix: str = "/"
    protocol: Literal["HTTP", "gRPC"] = "HTTP"
    app_name: str = ""
    ingress_request_router_targets: list[TargetDetails] = Field(default_factory=list)
    ingress_deployment_name: str = ""


class ServeInstanceDetails(_Detail):
    """The whole instance; empty where none is running."""

    controller_info: ServeActorDetails = Field(default_factory=ServeActorDetails)
    proxy_location: str | None = None
    http_options: dict[str, Any] | None = None
    grpc_options: dict[str, Any] | None = None
    proxies: dict[str, ProxyDetails] = Field(default_factory=dict)
    applications: dict[str, ApplicationDetails] = Field(default_factory=dict)
    target_capacity: float | None = None
    target_groups: list[TargetGroup] = Field(default_factory=list)
    controller_health_metrics: dict[str, Any] | None = None
    restores_unset_config_options: bool = True


class ScaleDeploymentRequest(SpecModel):
    """The body of the REST call that sets the number of replicas."""

    target_num_replicas: int = Field(ge=0)
