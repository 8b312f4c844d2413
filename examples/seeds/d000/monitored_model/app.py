"""A model that keeps the numbers of its own service: requests, errors, latency.

cd examples/seeds && eagleray run d000.monitored_model.app:app
curl --json '{"features": [5.1, 3.5, 1.4, 0.2]}' localhost:8000
"""

from __future__ import annotations

import threading
import time
from typing import Any

import joblib
import numpy as np

from d000.features import Features
from d000.model_files import model_file
from eagleray import serve


@serve.deployment(name="monitored_model")
class MonitoredModel:
    """`get_stats`, called by a handle, tells what this replica has counted since it started."""

    def __init__(self, model_path: str) -> None:
        self.model = joblib.load(model_path)
        self.request_count = 0
        self.error_count = 0
        self.total_latency_s = 0.0
        self.started = time.monotonic()
        self._lock = threading.Lock()  # requests run in several threads

    def __call__(self, request: Features) -> dict[str, Any]:
        started = time.perf_counter()
        with self._lock:
            self.request_count += 1
            request_id = self.request_count
        try:
            data = np.array([request["features"]])
            prediction = self.model.predict(data)[0]
            confidence = self.model.predict_proba(data)[0].max()
        except Exception:
            self._record(time.perf_counter() - started, failed=True)
            raise
        latency = time.perf_counter() - started
        self._record(latency, failed=False)
        return {
            "prediction": int(prediction),
            "confidence": float(confidence),
            "latency_ms": latency * 1000,
            "request_id": request_id,
        }

    def _record(self, latency: float, failed: bool) -> None:
        with self._lock:
            self.total_latency_s += latency
            self.error_count += failed
            tell = self.request_count % 100 == 0
        if tell:
            stats = self.get_stats()
            print(
                "Stats - QPS: {qps:.2f}, Avg Latency: {avg_latency_ms:.2f}ms, Error Rate: {error_rate:.2%}".format(
                    **stats
                )
            )

    def get_stats(self) -> dict[str, float]:
        """Counts since the start; times in seconds or milliseconds, as the names say."""
        uptime = time.monotonic() - self.started
        with self._lock:
            requests, errors, latency = self.request_count, self.error_count, self.total_latency_s
        return {
            "uptime_s": uptime,
            "request_count": requests,
            "error_count": errors,
            "qps": requests / uptime if uptime else 0.0,
            "avg_latency_ms": latency / requests * 1000 if requests else 0.0,
            "error_rate": errors / requests if requests else 0.0,
        }


app = MonitoredModel.bind(model_file("monitored_model.pkl"))
