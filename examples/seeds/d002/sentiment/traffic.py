"""Reviews that the analyzer has not learned from."""

from collections.abc import Callable
from typing import Any

from d002.sentiment.reviews import UNSEEN
from program import Ask


def _is(label: str) -> Callable[[Any], bool]:
    return lambda found: found["label"] == label and 0.5 <= found["score"] <= 1


ENV = {"EAGLERAY_NUM_GPUS": "1"}
ASKS = [Ask(text=text, right=_is(label)) for text, label in UNSEEN]
