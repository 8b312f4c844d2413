"""A model that answers requests of several callers with one prediction.

cd examples/seeds && eagleray run d000.batch_model.app:app
curl --json '{"input": [0, 0, 5, 13, 9, 1, ...]}' localhost:8000      (64 grey values from 0 to 16)
"""

from __future__ import annotations

import asyncio
from typing import Any

import joblib
import numpy as np
from typing_extensions import TypedDict

from d000.model_files import model_file
from eagleray import serve
from eagleray.serve.config import AutoscalingConfig


class Image(TypedDict):
    """An image of 8 x 8 pixels."""

    input: list[float]


@serve.deployment(name="batch_model", autoscaling_config=AutoscalingConfig(min_replicas=1, max_replicas=3))
class BatchOptimizedModel:
    """Up to 16 requests make a batch; none waits longer than 50 ms for others."""

    def __init__(self, model_path: str) -> None:
        self.model = joblib.load(model_path)

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.05)
    async def handle_batch(self, requests: list[Image]) -> list[Any]:
        """An answer for each request; for one that brings no image an exception, which is its own alone."""
        images = [np.array(request["input"]) for request in requests]
        good = [place for place, image in enumerate(images) if image.shape == (64,)]
        answers: list[Any] = [
            ValueError(f"An image has 64 values, here are {image.size}") for image in images
        ]
        if good:
            batch = np.array([images[place] for place in good])
            predictions = await asyncio.to_thread(self.model.predict, batch)
            for index, (place, prediction) in enumerate(zip(good, predictions, strict=True)):
                answers[place] = {
                    "prediction": prediction.item(),
                    "batch_index": index,
                    "batch_size": len(requests),
                }
        return answers

    async def __call__(self, request: Image) -> dict[str, Any]:
        """One request; it shares a batch with whoever comes at the same time."""
        answer: dict[str, Any] = await self.handle_batch(request)
        return answer


app = BatchOptimizedModel.bind(model_file("batch_model.pkl"))
