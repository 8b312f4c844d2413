"""Flowers, which both versions know, and requests with mistakes."""

from typing import Any

from d000.flowers import flowers, refused
from program import Ask


def _species(answer: Any) -> Any:
    return answer["prediction"] if answer["model_version"] in ("v1", "v2") else None


ASKS = [
    *flowers("features", _species),
    *refused("features"),
    Ask(json={"features": [5.1, 3.5]}, status=500),
]
