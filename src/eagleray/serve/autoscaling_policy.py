"""What an autoscaling policy sees, and the policies that come with Eagleray, under their familiar path.

A policy is `fn(ctx) -> number` or `fn(ctx) -> (number, state)`: how many replicas it wants. Factors, delays and bounds
of the deployment's `autoscaling_config` are applied afterwards; `state` comes back as `ctx.policy_state`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from eagleray.base.ids import DeploymentID, ReplicaID
from eagleray.serve.async_inference_autoscaling_policy import AsyncInferenceAutoscalingPolicy
from eagleray.spec.autoscaling import AutoscalingConfig
from eagleray.spec.latency import replicas_for


@dataclass(frozen=True)
class AutoscalingContext:
    """The deployment as it is now. Load is aggregated over the look-back period; times are wall time in seconds.

    `raw_metrics` and `aggregated_metrics` hold what the replicas' `record_autoscaling_stats` returned, by name.
    `cpu_utilization` is the mean of the replicas' processes in percent of a core.
    """

    deployment_id: DeploymentID
    deployment_name: str
    app_name: str
    current_num_replicas: int
    target_num_replicas: int
    running_replicas: list[ReplicaID]
    total_num_requests: float
    total_queued_requests: float
    total_running_requests: float
    aggregated_metrics: dict[str, dict[ReplicaID, float]]
    raw_metrics: dict[str, dict[ReplicaID, list[tuple[float, float]]]]
    capacity_adjusted_min_replicas: int
    capacity_adjusted_max_replicas: int
    policy_state: dict[str, Any]
    last_scale_up_time: float | None
    last_scale_down_time: float | None
    current_time: float
    config: AutoscalingConfig = field(default_factory=AutoscalingConfig)
    requests_per_second: float = 0.0
    average_latency_ms: float = 0.0
    cpu_utilization: float = 0.0


def default_autoscaling_policy(ctx: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """Load over `target_ongoing_requests`."""
    return ctx.total_num_requests / ctx.config.target_ongoing_requests, {}


replica_queue_length_autoscaling_policy = default_autoscaling_policy
"""Its older name."""


class LatencyTargetPolicy:
    """Keeps the p95 of response times, waiting included, under `p95_ms`: give it by `policy_kwargs`.

    It needs no `target_ongoing_requests`: it measures how long calls take and how many come.
    """

    def __init__(self, p95_ms: float) -> None:
        self._p95_s = p95_ms / 1000

    def __call__(self, ctx: AutoscalingContext) -> float:
        return replicas_for(
            self._p95_s,
            replicas=max(ctx.current_num_replicas, 1),
            served_by=max(ctx.current_num_replicas, 1),
            ongoing=ctx.average_latency_ms / 1000 * ctx.requests_per_second or ctx.total_num_requests,
            per_second=ctx.requests_per_second,
            growth=0.0,
            waiting=ctx.total_queued_requests / ctx.config.look_back_period_s,
        )


__all__ = [
    "AsyncInferenceAutoscalingPolicy",
    "AutoscalingContext",
    "LatencyTargetPolicy",
    "default_autoscaling_policy",
    "replica_queue_length_autoscaling_policy",
]
