"""Twelve classifiers in one deployment of two replicas that keep three models each.

python train.py && eagleray run app:app
curl -H 'serve_multiplexed_model_id: iris-svm' --json '[[5.1, 3.5, 1.4, 0.2]]' localhost:8000
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from starlette.requests import Request

from eagleray import serve

MODELS = Path(os.environ.get("MANY_MODELS", Path(__file__).with_name("models")))


@serve.deployment(num_replicas=2, max_ongoing_requests=16)
class Classifiers:
    """Loads the model that a request names when it is first asked for."""

    def __init__(self) -> None:
        self.known = {path.stem for path in MODELS.glob("*.joblib")}
        self.loads = 0

    @serve.multiplexed(max_num_models_per_replica=3)
    async def get_model(self, model_id: str) -> Any:
        if model_id not in self.known:
            raise KeyError(f"there is no model '{model_id}'; there are {sorted(self.known)}")
        self.loads += 1
        return await asyncio.to_thread(joblib.load, MODELS / f"{model_id}.joblib")

    async def __call__(self, request: Request) -> dict[str, Any]:
        rows = np.asarray(await request.json(), dtype=np.float64)
        model = await self.get_model(serve.get_multiplexed_model_id())
        labels = await asyncio.to_thread(model.predict, rows)
        return {
            "labels": labels.tolist(),
            "replica": serve.get_replica_context().replica_tag,
            "loads": self.loads,
        }


app = Classifiers.bind()
