"""Config files, details, statuses and logging options under their familiar path; they are defined in `spec`."""

from eagleray.serve.context import ReplicaRank
from eagleray.spec.config import (
    DeploymentSchema,
    HTTPOptionsSchema,
    ServeApplicationSchema,
    ServeDeploySchema,
    TracingConfig,
    gRPCOptionsSchema,
)
from eagleray.spec.deployment import ReplicaResources as RayActorOptionsSchema
from eagleray.spec.details import (
    ApplicationDetails,
    DeploymentDetails,
    ProxyDetails,
    ReplicaDetails,
    ServeActorDetails,
    ServeInstanceDetails,
    TargetDetails,
    TargetGroup,
)
from eagleray.spec.options import EncodingType, LoggingConfig
from eagleray.spec.status import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
    ProxyStatus,
    ReplicaState,
    ServeStatus,
)

__all__ = [
    "ApplicationDetails",
    "ApplicationStatus",
    "ApplicationStatusOverview",
    "DeploymentDetails",
    "DeploymentSchema",
    "DeploymentStatus",
    "DeploymentStatusOverview",
    "DeploymentStatusTrigger",
    "EncodingType",
    "HTTPOptionsSchema",
    "LoggingConfig",
    "ProxyDetails",
    "ProxyStatus",
    "RayActorOptionsSchema",
    "ReplicaDetails",
    "ReplicaRank",
    "ReplicaState",
    "ServeActorDetails",
    "ServeApplicationSchema",
    "ServeDeploySchema",
    "ServeInstanceDetails",
    "ServeStatus",
    "TargetDetails",
    "TargetGroup",
    "TracingConfig",
    "gRPCOptionsSchema",
]
