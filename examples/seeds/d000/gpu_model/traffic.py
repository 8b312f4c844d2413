"""Digits, and requests with mistakes."""

from d000.digits import UNSEEN
from d000.flowers import refused
from program import Ask

ENV = {"EAGLERAY_NUM_GPUS": "1"}


def _is(digit: int):
    return lambda answer: (
        answer["prediction"] == digit
        and 0.3 < answer["confidence"] <= 1
        and (answer["gpu_memory_used"] > 0) == (answer["device"] == "cuda")
    )


ASKS = [
    *(Ask(json={"image": image}, right=_is(digit)) for image, digit in UNSEEN),
    *refused("image"),
    Ask(json={"image": [1.0, 2.0]}, status=500),
]
