"""Images that the classifier has not seen, of which it knows these, and one that is no image."""

from typing import Any

from sklearn.datasets import load_digits

from d002.batch_model.app import HELD_OUT
from program import Ask

_images, _digits = load_digits(return_X_y=True)
IMAGES = [(image.tolist(), int(digit)) for image, digit in zip(_images, _digits, strict=True)][-HELD_OUT:]


def _is(digit: int) -> Any:
    return lambda found: found["digit"] == digit


ASKS = [
    *(Ask(json=image, right=_is(digit)) for image, digit in IMAGES[:8]),
    Ask(json=[1, 2, 3], status=422),
    Ask(json={"pixels": []}, status=422),
]
