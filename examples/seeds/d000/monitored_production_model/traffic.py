"""Flowers, requests with mistakes, and a row that the model fails at."""

from d000.flowers import flowers, refused
from program import Ask

ASKS = [
    *flowers("data"),
    *refused("data"),
    Ask(json={"data": [5.1, 3.5]}, status=500),
]
