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
    ScaleDeploymentRequest,
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
from eagleray.spec.tasks import (
    CeleryAdapterConfig,
    MemoryAdapterConfig,
    RedisAdapterConfig,
    SQLiteAdapterConfig,
    TaskProcessorConfig,
    TaskResult,
)
from eagleray.tasks.adapter import TaskProcessorAdapter

__all__ = [
    "ApplicationDetails",
    "ApplicationStatus",
    "ApplicationStatusOverview",
    "CeleryAdapterConfig",
    "DeploymentDetails",
    "DeploymentSchema",
    "DeploymentStatus",
    "DeploymentStatusOverview",
    "DeploymentStatusTrigger",
    "EncodingType",
    "HTTPOptionsSchema",
    "LoggingConfig",
    "MemoryAdapterConfig",
    "ProxyDetails",
    "ProxyStatus",
    "RayActorOptionsSchema",
    "RedisAdapterConfig",
    "ReplicaDetails",
    "ReplicaRank",
    "ReplicaState",
    "SQLiteAdapterConfig",
    "ScaleDeploymentRequest",
    "ServeActorDetails",
    "ServeApplicationSchema",
    "ServeDeploySchema",
    "ServeInstanceDetails",
    "ServeStatus",
    "TargetDetails",
    "TargetGroup",
    "TaskProcessorAdapter",
    "TaskProcessorConfig",
    "TaskResult",
    "TracingConfig",
    "gRPCOptionsSchema",
]
