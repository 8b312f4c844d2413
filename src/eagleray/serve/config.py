"""Options of the instance and of deployments under their familiar path; they are defined in `spec.options`."""

from eagleray.serve.autoscaling_policy import AutoscalingContext
from eagleray.spec.autoscaling import AggregationFunction, AutoscalingConfig, AutoscalingPolicy
from eagleray.spec.cluster import (
    DeploymentActorConfig,
    GangPlacementStrategy,
    GangRuntimeFailurePolicy,
    GangSchedulingConfig,
)
from eagleray.spec.options import (
    BackpressureConfig,
    ControllerOptions,
    HTTPOptions,
    ProxyLocation,
    gRPCOptions,
)
from eagleray.spec.router import RequestRouterConfig

__all__ = [
    "AggregationFunction",
    "AutoscalingConfig",
    "AutoscalingContext",
    "AutoscalingPolicy",
    "BackpressureConfig",
    "ControllerOptions",
    "DeploymentActorConfig",
    "GangPlacementStrategy",
    "GangRuntimeFailurePolicy",
    "GangSchedulingConfig",
    "HTTPOptions",
    "ProxyLocation",
    "RequestRouterConfig",
    "gRPCOptions",
]
