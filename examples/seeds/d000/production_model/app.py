"""A deployment with everything set: resources, packages, scaling, health, shutdown, concurrency, logs.

cd examples/seeds && EAGLERAY_NUM_GPUS=2 eagleray run d000.production_model.app:app
curl --json '{"data": [5.1, 3.5, 1.4, 0.2]}' localhost:8000

EAGLERAY_NUM_GPUS=2 lets a machine without GPUs stand in. Logs go to the folder PRODUCTION_LOGS.
"""

from __future__ import annotations

import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib

from d000.features import Row
from d000.model_files import model_file
from eagleray import serve
from eagleray.serve.config import AutoscalingConfig

LOGS = os.environ.get("PRODUCTION_LOGS") or str(Path(tempfile.gettempdir()) / "eagleray-production-logs")
MEMORY_MB = int(os.environ.get("PRODUCTION_MEMORY_MB") or 4096)


@serve.deployment(
    name="production_model",
    ray_actor_options={
        "num_cpus": 2,
        "num_gpus": 0.5,  # two replicas share a GPU
        "memory": MEMORY_MB * 1024**2,
        "runtime_env": {"pip": ["tabulate==0.9.0"], "env_vars": {"OMP_NUM_THREADS": "1"}},
    },
    autoscaling_config=AutoscalingConfig(
        min_replicas=3,
        max_replicas=20,
        target_ongoing_requests=8,
        upscale_delay_s=30.0,
        downscale_delay_s=300.0,
    ),
    health_check_period_s=30.0,
    health_check_timeout_s=10.0,
    graceful_shutdown_wait_loop_s=5.0,
    graceful_shutdown_timeout_s=30.0,
    max_ongoing_requests=10,
    logging_config={"log_level": "INFO", "logs_dir": LOGS},
)
class ProductionModel:
    """A classifier that tells, beside its prediction, which of the options it finds around itself."""

    def __init__(self, model_path: str) -> None:
        self.model = joblib.load(model_path)
        # Of the deployment's own environment: whoever binds the application need not have it.
        self.packages = {"tabulate": version("tabulate")}

    def check_health(self) -> None:
        self.model.predict([[0.0, 0.0, 0.0, 0.0]])

    def __call__(self, request: Row) -> dict[str, Any]:
        return {
            "prediction": int(self.model.predict([request["data"]])[0]),
            "replica_id": serve.get_replica_context().replica_id.unique_id,
            "packages": self.packages,
            "threads": os.environ["OMP_NUM_THREADS"],
            "gpu": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        }


app = ProductionModel.bind(model_file("production_model.pkl"))
