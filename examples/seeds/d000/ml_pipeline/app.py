"""Three deployments in a row: preprocessor, inference, and the pipeline that calls them.

cd examples/seeds && eagleray run d000.ml_pipeline.app:app
curl --json '{"raw_data": [5.1, 3.5, 1.4, 0.2]}' localhost:8000
"""

from __future__ import annotations

from typing import Any

import joblib
import numpy as np
from typing_extensions import TypedDict

from d000.model_files import model_file
from eagleray import serve
from eagleray.serve.handle import DeploymentHandle


class RawData(TypedDict):
    """One row as it was measured."""

    raw_data: list[float]


@serve.deployment(name="preprocessor")
class DataPreprocessor:
    """Standardises a row: mean 0, deviation 1. One whose numbers are all equal is all zeros."""

    def __call__(self, request: RawData) -> dict[str, list[float]]:
        raw = np.array(request["raw_data"])
        spread = raw.std()
        return {"processed_data": ((raw - raw.mean()) / (spread if spread else 1.0)).tolist()}


@serve.deployment(name="model_inference")
class ModelInference:
    """Asks a model that was trained on standardised rows."""

    def __init__(self, model_path: str) -> None:
        self.model = joblib.load(model_path)

    def __call__(self, request: dict[str, list[float]]) -> dict[str, int]:
        return {"prediction": int(self.model.predict(np.array([request["processed_data"]]))[0])}


@serve.deployment(name="ml_pipeline")
class MLPipeline:
    """Its handles may be of its own application, or of others that run already."""

    def __init__(self, preprocessor: DeploymentHandle, model: DeploymentHandle) -> None:
        self.preprocessor = preprocessor
        self.model = model

    async def __call__(self, request: RawData) -> dict[str, Any]:
        # The preprocessor's answer goes to the model as a response that has not come yet: nobody waits here for it.
        inferred = await self.model.remote(self.preprocessor.remote(request))
        return {
            "prediction": inferred["prediction"],
            "pipeline_version": "1.0",
            "processing_steps": ["preprocess", "inference", "postprocess"],
        }


app = MLPipeline.bind(DataPreprocessor.bind(), ModelInference.bind(model_file("inference_model.pkl")))
