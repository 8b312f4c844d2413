"""A FastAPI ingress, a preprocessing step and a classifier with two replicas: `eagleray run app:app`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel, Field

from eagleray import serve
from eagleray.serve.handle import DeploymentHandle

api = FastAPI(title="Handwritten digits")


class Image(BaseModel):
    """One image: 64 grey values from 0 to 16, row by row."""

    pixels: list[float] = Field(min_length=64, max_length=64)


@serve.deployment(max_ongoing_requests=32)
class Preprocessor:
    """Scales grey values to 0..1 and checks that they are numbers that the model was trained on."""

    def __call__(self, pixels: list[float]) -> np.ndarray:
        image = np.asarray(pixels, dtype=np.float64).reshape(1, 64)
        if not np.isfinite(image).all() or image.min() < 0 or image.max() > 16:
            raise ValueError("pixels must lie between 0 and 16")
        return image / 16.0


@serve.deployment(num_replicas=2, max_ongoing_requests=8)
class Classifier:
    """The trained model; each replica loads a copy of its own."""

    def __init__(self, model_path: str) -> None:
        self.model = joblib.load(model_path)

    def predict(self, image: np.ndarray) -> int:
        return int(self.model.predict(image)[0])


@serve.deployment(max_ongoing_requests=64)
@serve.ingress(api)
class Digits:
    """What clients talk to. The preprocessed image goes to the classifier without passing through here."""

    def __init__(self, preprocessor: DeploymentHandle, classifier: DeploymentHandle) -> None:
        self.preprocessor = preprocessor
        self.classifier = classifier

    @api.post("/classify")
    async def classify(self, image: Image) -> dict[str, Any]:
        scaled = self.preprocessor.remote(image.pixels)
        return {"digit": await self.classifier.predict.remote(scaled)}


app = Digits.bind(Preprocessor.bind(), Classifier.bind(str(Path(__file__).with_name("model.joblib"))))
