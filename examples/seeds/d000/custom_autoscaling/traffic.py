"""Flowers, and requests with mistakes."""

from d000.flowers import flowers, refused
from program import Ask

ASKS = [
    *flowers("features"),
    *refused("features"),
    Ask(json={"features": [5.1, 3.5]}, status=500),
]
