"""Compares the meaning of two sentences, in as many replicas as the requests need.

cd examples/seeds && eagleray run d002.autoscaled.app:app
curl -H 'content-type: application/json' -d '{"first": "a cat", "second": "a kitten"}' localhost:8000
"""

from __future__ import annotations

from typing import Any

from eagleray import serve
from models.minilm import load


@serve.deployment(
    autoscaling_config={
        "min_replicas": 1,
        "initial_replicas": 2,
        "max_replicas": 20,
        "target_ongoing_requests": 5,
        "upscale_delay_s": 30,
        "downscale_delay_s": 600,
        "smoothing_factor": 1.0,
    },
)
class AutoscaledModel:
    def __init__(self) -> None:
        self.model = load()

    def __call__(self, first: str, second: str) -> dict[str, Any]:
        one, other = self.model.encode([first, second])
        return {"likeness": float(one @ other), "replica": serve.get_replica_context().replica_tag}


app = AutoscaledModel.bind()
