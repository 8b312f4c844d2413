"""Several models asked at once: their weighted mean, from those that answer.

cd examples/seeds && eagleray run d000.ensemble_model.app:app
curl --json '{"data": [[0.05, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, -0.01, 0.02, -0.02]]}' localhost:8000
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import joblib
import numpy as np

from d000.features import Rows
from d000.model_files import missing_file, model_file
from eagleray import serve

logger = logging.getLogger("eagleray.serve")


@serve.deployment(name="ensemble_model", num_replicas=2)
class EnsembleModel:
    """A mistake of one model is its own: it is named in `failed_models`, and the others make up the answer.

    `model_configs`: dicts of `name`, `path` and, 1.0 without it, `weight`. A file that cannot be loaded is a model that
    always fails; when none can be loaded, the deployment fails.
    """

    def __init__(self, model_configs: list[dict[str, Any]]) -> None:
        self.models: dict[str, Any] = {}
        self.model_weights: dict[str, float] = {}
        self.unloaded: list[str] = []
        for config in model_configs:
            name = config["name"]
            try:
                self.models[name] = joblib.load(config["path"])
            except Exception:
                logger.exception("Model %s cannot be loaded", name)
                self.unloaded.append(name)
            else:
                self.model_weights[name] = config.get("weight", 1.0)
        if not self.models:
            raise RuntimeError(f"No model of the ensemble can be loaded: {', '.join(self.unloaded)}")
        print(f"Loaded {len(self.models)} models of {len(model_configs)} for the ensemble")

    async def __call__(self, request: Rows) -> dict[str, Any]:
        rows = np.array(request["data"])
        answers = await asyncio.gather(
            *(asyncio.to_thread(model.predict, rows) for model in self.models.values()),
            return_exceptions=True,
        )
        results: dict[str, np.ndarray] = {}
        failed_models = list(self.unloaded)
        for name, answer in zip(self.models, answers, strict=True):
            if isinstance(answer, BaseException):
                logger.error("Model %s failed: %s", name, answer)
                failed_models.append(name)
            else:
                results[name] = answer
        if not results:
            raise RuntimeError("All models failed")
        return {
            "prediction": self._weighted_mean(results).tolist(),
            "successful_models": list(results),
            "failed_models": failed_models,
            "ensemble_size": len(results),
        }

    def _weighted_mean(self, results: dict[str, np.ndarray]) -> np.ndarray:
        weights = [self.model_weights[name] for name in results]
        mean: np.ndarray = np.average(list(results.values()), axis=0, weights=weights)
        return mean


app = EnsembleModel.bind(
    [
        {"name": "ridge", "path": model_file("ridge.pkl"), "weight": 2.0},
        {"name": "forest", "path": model_file("forest.pkl")},
        {"name": "neighbors", "path": model_file("neighbors.pkl")},
        {"name": "of_two_features", "path": model_file("of_two_features.pkl")},
        {"name": "lost", "path": missing_file("ensemble.pkl")},
    ]
)
