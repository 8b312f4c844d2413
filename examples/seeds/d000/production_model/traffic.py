"""Flowers, what a replica finds around itself, and requests with mistakes."""

from d000.flowers import flowers, refused
from program import Ask

ENV = {"EAGLERAY_NUM_GPUS": "2"}

ASKS = [
    *flowers("data"),
    Ask(
        json={"data": [5.1, 3.5, 1.4, 0.2]},
        right=lambda answer: (
            answer["packages"] == {"tabulate": "0.9.0"}
            and answer["threads"] == "1"
            and answer["gpu"].isdigit()
        ),
    ),
    *refused("data"),
    Ask(json={"data": [5.1, 3.5]}, status=500),
]
