"""Flowers through the whole pipeline; errors of the first and of the second step."""

from d000.flowers import UNSEEN, flowers, refused
from program import Ask

ASKS = [
    *flowers("raw_data"),
    Ask(
        json={"raw_data": UNSEEN[0][0]},
        right={
            "prediction": UNSEEN[0][1],
            "pipeline_version": "1.0",
            "processing_steps": ["preprocess", "inference", "postprocess"],
        }.__eq__,
    ),
    Ask(json={"raw_data": [2.0, 2.0, 2.0, 2.0]}),
    *refused("raw_data"),
    Ask(json={"raw_data": [5.1, 3.5]}, status=500),
]
