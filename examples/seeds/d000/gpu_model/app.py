"""A network on a GPU: each replica has one for itself, and their number follows the load.

cd examples/seeds && EAGLERAY_NUM_GPUS=1 eagleray run d000.gpu_model.app:app
curl --json '{"image": [0, 0, 5, 13, 9, 1, ...]}' localhost:8000      (64 grey values from 0 to 16)

EAGLERAY_NUM_GPUS=1 lets a machine without a GPU stand in: it computes on its CPU.
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from typing_extensions import TypedDict

from d000.model_files import model_file
from eagleray import serve
from eagleray.serve.config import AutoscalingConfig


class Picture(TypedDict):
    """An image of 8 x 8 pixels."""

    image: list[float]


@serve.deployment(
    name="gpu_model",
    num_replicas="auto",
    autoscaling_config=AutoscalingConfig(min_replicas=1, max_replicas=4, target_ongoing_requests=2),
    ray_actor_options={"num_gpus": 1},
)
class GPUAcceleratedModel:
    """`model_name` is one of `FILES`; any other is a ValueError, and the deployment fails with it."""

    FILES = {"digits_small": "digits_small.npz", "digits_large": "digits_large.npz"}

    def __init__(self, model_name: str) -> None:
        self.model = self._load_model(model_name)
        print(f"{model_name} loaded on device {self.model.device}")

    def _load_model(self, model_name: str) -> Any:
        if model_name not in self.FILES:
            raise ValueError(f"Unsupported model: {model_name}; there are {', '.join(self.FILES)}")
        # Imported here, since PyTorch takes seconds, which nobody but a replica should wait.
        from d000.gpu_model.network import load

        return load(model_file(self.FILES[model_name]))

    async def __call__(self, request: Picture) -> dict[str, Any]:
        # In a thread, so that other requests are read and answered meanwhile.
        probabilities = await asyncio.to_thread(self.model.probabilities, np.array(request["image"]) / 16)
        prediction = int(probabilities.argmax())
        return {
            "prediction": prediction,
            "confidence": float(probabilities[prediction]),
            "device": self.model.device,
            "gpu_memory_used": self.model.memory_bytes(),
        }


app = GPUAcceleratedModel.bind("digits_large")
