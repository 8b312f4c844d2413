"""A number of replicas that a class of the program's own computes, from several signals at once.

cd examples/seeds && eagleray run d000.custom_autoscaling.app:app
curl --json '{"features": [5.1, 3.5, 1.4, 0.2]}' localhost:8000
"""

from __future__ import annotations

from typing import Any

import joblib
import numpy as np

from d000.features import Features
from d000.model_files import model_file
from eagleray import serve
from eagleray.serve.config import AutoscalingConfig


class CustomAutoscalingConfig(AutoscalingConfig):
    """Weighs what the rate, the latency and the processor ask for. `cpu_utilization` is a fraction."""

    target_qps_per_replica: float = 5.0
    target_latency_ms: float = 100.0
    qps_weight: float = 0.6
    latency_weight: float = 0.3
    resource_weight: float = 0.1

    def calculate_target_replicas(
        self,
        current_replicas: int,
        current_qps: float,
        avg_latency_ms: float,
        cpu_utilization: float,
        queue_length: int,
    ) -> int:
        """The number wanted, within the bounds."""
        by_qps = max(1.0, current_qps / self.target_qps_per_replica)
        by_latency = current_replicas * max(1.0, avg_latency_ms / self.target_latency_ms)
        by_resources = float(current_replicas)
        if cpu_utilization > 0.8:
            by_resources *= 1.5
        elif cpu_utilization < 0.3:
            by_resources = max(1.0, by_resources * 0.8)
        wanted = round(
            by_qps * self.qps_weight + by_latency * self.latency_weight + by_resources * self.resource_weight
        )
        return max(self.min_replicas, min(self.max_replicas, wanted))


@serve.deployment(
    name="custom_autoscaling",
    autoscaling_config=CustomAutoscalingConfig(
        min_replicas=1, max_replicas=3, look_back_period_s=2.0, upscale_delay_s=0.5, downscale_delay_s=60.0
    ),
)
class ScaledClassifier:
    """Five requests a second are enough for one replica, says its configuration."""

    def __init__(self, model_path: str) -> None:
        self.model = joblib.load(model_path)

    def __call__(self, request: Features) -> dict[str, Any]:
        return {
            "prediction": int(self.model.predict(np.array([request["features"]]))[0]),
            "replica_id": serve.get_replica_context().replica_id.unique_id,
        }


app = ScaledClassifier.bind(model_file("scaling_model_2.pkl"))
