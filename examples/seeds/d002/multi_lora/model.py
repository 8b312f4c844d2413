"""A classifier of handwritten digits, and low-rank adapters that let it read turned, mirrored and negative ones.

The base is frozen random features and a linear head, fitted by least squares to upright digits. What an adapter changes
is the head alone, by A @ B: the best update of rank 9, from a singular value decomposition.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

RANK, FEATURES, HELD_OUT = 9, 400, 300

_TURNS: dict[str, Callable[[Any], Any]] = {
    "quarter": lambda images: np.rot90(images, 1, axes=(1, 2)),
    "half": lambda images: np.rot90(images, 2, axes=(1, 2)),
    "three-quarters": lambda images: np.rot90(images, 3, axes=(1, 2)),
    "mirror": lambda images: images[:, :, ::-1],
    "upside-down": lambda images: images[:, ::-1],
    "transposed": lambda images: images.transpose(0, 2, 1),
}
ADAPTERS = [*_TURNS, *(f"negative-{name}" for name in _TURNS)]


def changed(adapter: str, images: Any) -> Any:
    """Images of 8 x 8 grey values from 0 to 16 as the adapter's input looks. An adapter not known is a KeyError."""
    name = adapter.removeprefix("negative-")
    turned = _TURNS[name](images)
    return 16 - turned if name != adapter else turned


@cache
def data() -> tuple[Any, Any]:
    """Images and their digits; the last HELD_OUT are for tests."""
    images, digits = load_digits(return_X_y=True)
    return images.reshape(-1, 8, 8), digits


class Base:
    """Upright digits."""

    def __init__(self) -> None:
        self._weights = np.random.default_rng(1).normal(0, 0.3, (65, FEATURES))
        images, digits = (part[:-HELD_OUT] for part in data())
        self._images, self._wanted = images, np.eye(10)[digits]
        self.head = self._fit(images)

    def features(self, images: Any) -> Any:
        flat = images.reshape(len(images), 64) / 8 - 1
        return np.maximum(np.hstack([flat, np.ones((len(flat), 1))]) @ self._weights, 0)

    def adapter(self, name: str) -> tuple[Any, Any]:
        """A and B of the adapter."""
        update = self._fit(changed(name, self._images)) - self.head
        left, values, right = np.linalg.svd(update, full_matrices=False)
        return left[:, :RANK] * values[:RANK], right[:RANK]

    def _fit(self, images: Any) -> Any:
        with threadpool_limits(
            1
        ):  # threads that spin for such small matrices only take cores from other replicas
            rows = self.features(images)
            return np.linalg.solve(rows.T @ rows + np.eye(FEATURES), rows.T @ self._wanted)


class LoRA:
    """The base with one adapter on. `read` gives the digit of an image of 64 grey values."""

    def __init__(self, base: Base, name: str) -> None:
        self._base = base
        self._a, self._b = base.adapter(name)

    def read(self, pixels: Any) -> int:
        rows = self._base.features(np.asarray(pixels, dtype=float).reshape(1, 8, 8))
        return int((rows @ self._base.head + (rows @ self._a) @ self._b).argmax())
