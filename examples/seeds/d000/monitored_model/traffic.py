"""Flowers, requests with mistakes, and a row that the model fails at: an error that is counted."""

from d000.flowers import flowers, refused
from program import Ask

ASKS = [
    *flowers("features"),
    Ask(
        json={"features": [5.1, 3.5, 1.4, 0.2]},
        right=lambda answer: answer["request_id"] >= 1 and answer["latency_ms"] > 0,
    ),
    *refused("features"),
    Ask(json={"features": [5.1, 3.5]}, status=500),
]
