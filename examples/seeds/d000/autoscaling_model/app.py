"""A model whose number of replicas follows its load, which checks itself and takes another file while it serves.

cd examples/seeds && eagleray run d000.autoscaling_model.app:app
curl --json '{"data": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5]]}' localhost:8000
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import joblib
import numpy as np

from d000.features import Rows
from d000.model_files import model_file
from eagleray import serve
from eagleray.serve.config import AutoscalingConfig


@serve.deployment(
    autoscaling_config=AutoscalingConfig(
        min_replicas=1,
        max_replicas=10,
        target_ongoing_requests=5,
        upscale_delay_s=30.0,
        downscale_delay_s=600.0,
        metrics_interval_s=10.0,
        look_back_period_s=30.0,
        upscaling_factor=1.0,
        downscaling_factor=0.5,
    ),
    max_ongoing_requests=10,
    user_config={"batch_size": 64},
)
class AutoScalingModel:
    """Asks the model for `batch_size` rows at a time; `user_config` may change that, and `model_path`."""

    def __init__(self, model_path: str) -> None:
        self._batch_size = 64
        self._requests = itertools.count(1)
        self._load(model_path)

    def _load(self, model_path: str) -> None:
        model = joblib.load(model_path)
        # The first prediction of a model is slow: let no user wait for it, and let a wrong file fail here.
        model.predict(self._dummy_input())
        self.model, self.model_path = model, model_path
        print(f"Model loaded from {model_path} and warmed up")

    def _dummy_input(self) -> np.ndarray:
        return np.zeros((1, 4))

    def __call__(self, request: Rows) -> dict[str, Any]:
        started = time.perf_counter()
        rows = np.array(request["data"])
        parts = [
            self.model.predict(rows[start : start + self._batch_size])
            for start in range(0, len(rows), self._batch_size)
        ]
        return {
            "prediction": np.concatenate(parts).tolist(),
            "request_id": next(self._requests),
            "batches": len(parts),
            "processing_time_ms": (time.perf_counter() - started) * 1000,
            "replica_id": serve.get_replica_context().replica_id.unique_id,
        }

    def reconfigure(self, config: dict[str, Any]) -> None:
        self._batch_size = config.get("batch_size", self._batch_size)
        if config.get("model_path", self.model_path) != self.model_path:
            self._load(config["model_path"])

    def check_health(self) -> None:
        if len(self.model.predict(self._dummy_input())) != 1:
            raise RuntimeError(f"The model of {self.model_path} answers nothing")


app = AutoScalingModel.bind(model_file("scaling_model.pkl"))
