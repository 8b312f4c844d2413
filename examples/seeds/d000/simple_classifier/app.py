"""A classifier with a fixed number of replicas: a joblib file is loaded once, and each request is one row.

cd examples/seeds && eagleray run d000.simple_classifier.app:app
curl --json '{"features": [5.1, 3.5, 1.4, 0.2]}' localhost:8000
"""

from __future__ import annotations

from typing import Any

import joblib
import numpy as np

from d000.features import Features
from d000.model_files import model_file
from eagleray import serve


@serve.deployment(
    name="simple_classifier",
    num_replicas=2,
    ray_actor_options={"num_cpus": 1, "memory": 1000 * 1024 * 1024},
)
class SimpleClassifier:
    """A class, and how sure the model is of it: answers below `threshold` of `user_config` are marked uncertain."""

    def __init__(self, model_path: str) -> None:
        self.model = joblib.load(model_path)
        self.version = "1.0.0"
        self.threshold = 0.0
        print(f"Model {self.version} loaded from {model_path}")

    def reconfigure(self, config: dict[str, Any]) -> None:
        self.version = config.get("version", self.version)
        self.threshold = config.get("threshold", self.threshold)

    def __call__(self, request: Features) -> dict[str, Any]:
        data = np.array([request["features"]])
        prediction = self.model.predict(data)[0]
        confidence = float(self.model.predict_proba(data)[0].max())
        return {
            "prediction": int(prediction),
            "confidence": confidence,
            "certain": confidence >= self.threshold,
            "model_version": self.version,
        }


app = SimpleClassifier.bind(model_file("simple_model.pkl"))
