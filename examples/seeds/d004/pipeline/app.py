"""The pipeline pattern: a picture is enhanced, a digit is found in it, the digit is read; one deployment a step.

cd examples/seeds && eagleray run d004.pipeline.app:app
README.md beside this file says how to call it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from d004.pipeline.scenes import SIDE, digits
from eagleray import serve
from eagleray.serve.handle import DeploymentHandle

NEIGHBOURS = 3  # that vote


@serve.deployment
class Enhance:
    """Takes the background away and stretches what is left to grey values from 0 to 16."""

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        lit = picture - np.median(picture)
        # The darkest corners of a digit are as weak as the noise, of which three deviations are one in a thousand.
        noise = 1.4826 * np.median(np.abs(lit))
        lit = np.where(lit > 3 * noise, lit, 0)
        return lit * (16 / max(float(lit.max()), 1.0))


@serve.deployment
class Detect:
    """Finds the window that looks most like a digit, whichever. Answers with its corner and its pixels."""

    def __init__(self) -> None:
        images, _, _, _ = digits()
        self.typical = images.mean(axis=0).reshape(SIDE, SIDE)

    def __call__(self, picture: np.ndarray) -> tuple[int, int, np.ndarray]:
        windows = np.lib.stride_tricks.sliding_window_view(picture, (SIDE, SIDE))
        likeness = np.einsum("ijkl,kl->ij", windows, self.typical)
        top, left = (int(place) for place in np.unravel_index(likeness.argmax(), likeness.shape))
        return top, left, windows[top, left]


@serve.deployment
class Recognise:
    """Nearest neighbours among 1,347 digits of many hands, also a pixel off, as they may be found."""

    def __init__(self) -> None:
        images, _, labels, _ = digits()
        squares = np.pad(images.reshape(-1, SIDE, SIDE), ((0, 0), (1, 1), (1, 1)))
        shifted = [squares[:, 1:-1, left : left + SIDE] for left in range(3)]
        shifted += [squares[:, top : top + SIDE, 1:-1] for top in (0, 2)]
        self.known = np.concatenate(shifted).reshape(-1, SIDE * SIDE)
        self.labels = np.tile(labels, len(shifted))

    def __call__(self, found: tuple[int, int, np.ndarray]) -> dict[str, Any]:
        top, left, pixels = found
        distances = ((self.known - pixels.reshape(-1)) ** 2).sum(axis=1)
        nearest = self.labels[np.argpartition(distances, NEIGHBOURS)[:NEIGHBOURS]]
        digit = int(np.bincount(nearest).argmax())
        return {"digit": digit, "box": [left, top, left + SIDE, top + SIDE]}


@serve.deployment
class Pipeline:
    """Calls the steps in order. What a step answers goes to the next one without passing through here."""

    def __init__(
        self, enhance: DeploymentHandle, detect: DeploymentHandle, recognise: DeploymentHandle
    ) -> None:
        self.enhance, self.detect, self.recognise = enhance, detect, recognise

    async def __call__(self, request: Request) -> Any:
        try:
            picture = np.array(await request.json(), dtype=np.float64)
        except (ValueError, TypeError, OverflowError):
            return PlainTextResponse("A picture is a list of rows of grey values, all of one length.", 422)
        if picture.ndim != 2 or min(picture.shape) < SIDE or not ((picture >= 0) & (picture <= 255)).all():
            return PlainTextResponse(
                f"A picture has at least {SIDE} rows of {SIDE} grey values, 0 to 255.", 422
            )
        enhanced = self.enhance.remote(picture)
        found = self.detect.remote(enhanced)
        return await self.recognise.remote(found)


app = Pipeline.bind(Enhance.bind(), Detect.bind(), Recognise.bind())
