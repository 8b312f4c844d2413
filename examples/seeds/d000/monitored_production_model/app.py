"""A model whose numbers go to Prometheus, and to whoever asks it by a handle.

cd examples/seeds && eagleray run d000.monitored_production_model.app:app
curl --json '{"data": [5.1, 3.5, 1.4, 0.2]}' localhost:8000
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from typing import Any

import joblib

from d000.features import Row
from d000.model_files import model_file
from eagleray import serve
from eagleray.serve import metrics

logger = logging.getLogger("eagleray.serve")


@serve.deployment(name="monitored_production_model")
class MonitoredProductionModel:
    """Counts requests, failures, latencies and what was predicted."""

    def __init__(self, model_path: str) -> None:
        self.model = joblib.load(model_path)
        self.metrics: dict[str, Any] = {
            "requests_total": 0,
            "requests_failed": 0,
            "latency_sum": 0.0,
            "latency_count": 0,
            "predictions_by_class": Counter(),
        }
        self._lock = threading.Lock()  # requests run in several threads
        self._predictions = metrics.Counter(
            "flower_predictions", description="Predictions of each species.", tag_keys=("species",)
        )
        self._failures = metrics.Counter("flower_failures", description="Requests that the model failed at.")
        self._latency = metrics.Histogram(
            "flower_latency_ms",
            description="Milliseconds of a prediction.",
            boundaries=[0.5, 1, 2, 5, 10, 50],
        )

    def __call__(self, request: Row) -> dict[str, Any]:
        started = time.perf_counter()
        with self._lock:
            self.metrics["requests_total"] += 1
        try:
            prediction = int(self.model.predict([request["data"]])[0])
        except Exception as error:
            with self._lock:
                self.metrics["requests_failed"] += 1
            self._failures.inc()
            logger.error("Prediction failed: %s", error)
            raise
        latency = time.perf_counter() - started
        with self._lock:
            self.metrics["latency_sum"] += latency
            self.metrics["latency_count"] += 1
            self.metrics["predictions_by_class"][str(prediction)] += 1
        self._predictions.inc(tags={"species": str(prediction)})
        self._latency.observe(latency * 1000)
        return {"prediction": prediction, "latency_ms": latency * 1000}

    def get_metrics(self) -> dict[str, Any]:
        """Counts of this replica since its start."""
        with self._lock:
            found = dict(self.metrics, predictions_by_class=dict(self.metrics["predictions_by_class"]))
        total, failed, count = found["requests_total"], found["requests_failed"], found["latency_count"]
        return {
            "requests_total": total,
            "requests_failed": failed,
            "success_rate": (total - failed) / total if total else 1.0,
            "avg_latency_ms": found["latency_sum"] / count * 1000 if count else 0.0,
            "predictions_distribution": found["predictions_by_class"],
        }


app = MonitoredProductionModel.bind(model_file("production_model.pkl"))
