"""Digits, and requests with mistakes among them."""

from d000.digits import UNSEEN
from d000.flowers import refused
from program import Ask


def _is(digit: int):
    return lambda answer: answer["prediction"] == digit and 1 <= answer["batch_size"] <= 16


ASKS = [
    *(Ask(json={"input": image}, right=_is(digit)) for image, digit in UNSEEN),
    *refused("input"),
    Ask(json={"input": [1.0, 2.0]}, status=500),
]
