"""Flowers, requests with mistakes, and a row with fewer features than the model knows: an error of the model."""

from d000.flowers import flowers, refused
from program import Ask

ASKS = [
    *flowers("features"),
    Ask(
        json={"features": [5.1, 3.5, 1.4, 0.2]},
        right=lambda answer: answer["certain"] and answer["model_version"] == "1.0.0",
    ),
    *refused("features"),
    Ask(json={"features": [5.1, 3.5]}, status=500),
]
