"""A classifier of handwritten digits that takes up to 32 requests at once.

cd examples/seeds && eagleray run d002.batch_model.app:app
curl -H 'content-type: application/json' -d '[0,0,5,13,9,1,0,0, ...]' localhost:8000     (64 grey values from 0 to 16)
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from starlette.responses import PlainTextResponse

from eagleray import serve

PIXELS, HELD_OUT = 64, 300


@serve.deployment
class BatchModel:
    """Answers each request by itself; the model sees one matrix of all that wait."""

    def __init__(self) -> None:
        images, digits = load_digits(return_X_y=True)
        self.model = LogisticRegression(max_iter=300).fit(images[:-HELD_OUT] / 16, digits[:-HELD_OUT])

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.01)
    async def __call__(self, inputs: list[list[float]]) -> list[Any]:
        rows = np.stack([self._preprocess(pixels) for pixels in inputs])
        digits = await asyncio.to_thread(self.model.predict, rows)
        return [
            {"digit": int(digit), "batch": len(inputs)}
            if len(pixels) == PIXELS
            else PlainTextResponse(f"An image has {PIXELS} grey values, this one {len(pixels)}.", 422)
            for pixels, digit in zip(inputs, digits, strict=True)
        ]

    def _preprocess(self, pixels: list[float]) -> Any:
        """A row of the matrix; a blank one for what is no image, whose neighbours must not suffer."""
        return np.asarray(pixels) / 16 if len(pixels) == PIXELS else np.zeros(PIXELS)


app = BatchModel.bind()
