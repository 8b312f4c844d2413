"""A classifier that answers the requests of many clients with one call of its model.

python train.py && eagleray run app:app
curl --json '[0,0,5,13,9,1,0,0, ...]' localhost:8000      (64 grey values from 0 to 16)
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from starlette.responses import PlainTextResponse

from eagleray import serve

MODEL = Path(os.environ.get("BATCHED_MODEL", Path(__file__).with_name("model.joblib")))


def is_image(pixels: np.ndarray) -> bool:
    return pixels.shape == (64,) and bool(np.isfinite(pixels).all())


@serve.deployment
class Digits:
    """Each request brings one image. Up to 64 of them become one matrix, and an answer takes 50 ms at most."""

    def __init__(self) -> None:
        self.model = joblib.load(MODEL)

    @serve.batch(max_batch_size=64, latency_target_s=0.05)
    async def __call__(self, images: list[np.ndarray]) -> list[Any]:
        rows = np.array([image if is_image(image) else np.zeros(64) for image in images], dtype=np.float64)
        digits = await asyncio.to_thread(self.model.predict, rows / 16)
        return [
            {"digit": int(digit), "batch": len(images)}
            if is_image(image)
            else PlainTextResponse("An image has 64 grey values.", 422)
            for image, digit in zip(images, digits, strict=True)
        ]


app = Digits.bind()
