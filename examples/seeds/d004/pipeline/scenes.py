"""Pictures to read: handwritten digits that the model has not seen, somewhere in a dark, noisy picture."""

from __future__ import annotations

from typing import Any

import numpy as np

HEIGHT, WIDTH = 24, 32
SIDE = 8  # of a digit, in pixels


def digits() -> tuple[Any, Any, Any, Any]:
    """Images to learn from, images never learnt from, and the labels of both. Grey values are 0 to 16."""
    # Takes more than a second, which only the processes that use it should need.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    return tuple(train_test_split(images, labels, test_size=0.25, random_state=0, stratify=labels))


def scenes(count: int, seed: int = 0) -> list[tuple[Any, tuple[int, int], int]]:
    """Pictures with grey values 0 to 255, each with the (top, left) corner and the label of its digit."""
    draw = np.random.default_rng(seed)
    _, images, _, labels = digits()
    found = []
    for index in draw.choice(len(images), count, replace=False):
        top, left = int(draw.integers(HEIGHT - SIDE + 1)), int(draw.integers(WIDTH - SIDE + 1))
        picture = draw.normal(40, 2, (HEIGHT, WIDTH))
        picture[top : top + SIDE, left : left + SIDE] += images[index].reshape(SIDE, SIDE) * draw.uniform(
            3, 8
        )
        found.append((picture.clip(0, 255).round(), (top, left), int(labels[index])))
    return found
