"""Two versions of a model side by side: nine requests of ten go to the first, one to the second.

cd examples/seeds && eagleray run d000.model_versions.app:app
curl --json '{"features": [5.1, 3.5, 1.4, 0.2]}' localhost:8000

`ModelVersionManager` does it from a script, with an application for each version: see `deploy_and_manage`.
"""

from __future__ import annotations

import random
from typing import Any

from d000.features import Features
from d000.model_files import model_file
from d000.simple_classifier.app import SimpleClassifier
from eagleray import serve
from eagleray.serve.handle import DeploymentHandle

WEIGHTS = {"v1": 0.9, "v2": 0.1}

main_model = SimpleClassifier.options(
    name="model_v1", user_config={"version": "1.0", "traffic_weight": WEIGHTS["v1"]}
).bind(model_file("model_v1.pkl"))

canary_model = SimpleClassifier.options(
    name="model_v2", user_config={"version": "2.0", "traffic_weight": WEIGHTS["v2"]}
).bind(model_file("model_v2.pkl"))


@serve.deployment(name="traffic_splitter", user_config=WEIGHTS)
class TrafficSplitter:
    """Draws a version for each request. `user_config` has the weights: of others than these two it is an error."""

    def __init__(self, v1_handle: DeploymentHandle, v2_handle: DeploymentHandle) -> None:
        self.handles = {"v1": v1_handle, "v2": v2_handle}
        self.weights = WEIGHTS

    def reconfigure(self, weights: dict[str, float]) -> None:
        if set(weights) != set(self.handles) or min(weights.values()) < 0 or not any(weights.values()):
            raise ValueError(f"weights of v1 and v2, not both 0, are needed; here are {weights}")
        self.weights = weights

    async def __call__(self, request: Features) -> dict[str, Any]:
        (version,) = random.choices(list(self.weights), list(self.weights.values()))
        result = await self.handles[version].remote(request)
        return {**result, "model_version": version}


app = TrafficSplitter.bind(main_model, canary_model)


class ModelVersionManager:
    """Releases a new version beside the one that serves, and takes it back."""

    @staticmethod
    def deploy_model_versions() -> None:
        """Deploys both versions and the splitter, each an application below a route of its name."""
        serve.run(main_model, name="model_v1", route_prefix="/model_v1")
        serve.run(canary_model, name="model_v2", route_prefix="/model_v2")
        ModelVersionManager.split_traffic(WEIGHTS)

    @staticmethod
    def split_traffic(weights: dict[str, float]) -> None:
        """Sends the versions these shares of `/traffic_splitter` from now on; the models do not notice."""
        splitter = TrafficSplitter.options(user_config=weights).bind(
            serve.get_app_handle("model_v1"), serve.get_app_handle("model_v2")
        )
        serve.run(splitter, name="traffic_splitter", route_prefix="/traffic_splitter")

    @staticmethod
    def roll_back() -> None:
        """The version before gets everything."""
        ModelVersionManager.split_traffic({"v1": 1.0, "v2": 0.0})
