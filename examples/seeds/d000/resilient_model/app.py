"""A model that answers although its file, or its prediction, fails: by a simpler one that cannot fail.

cd examples/seeds && eagleray run d000.resilient_model.app:app
curl --json '{"data": [[5.1, 3.5, 1.4, 0.2]]}' localhost:8000
curl --json '{"data": [[5.1, 3.5]]}' localhost:8000         (too few features: the fallback answers)
"""

from __future__ import annotations

import logging
import time
from typing import Any

import joblib
import numpy as np

from d000.features import Rows
from d000.model_files import missing_file, model_file
from eagleray import serve

logger = logging.getLogger("eagleray.serve")


@serve.deployment(name="resilient_model")
class ResilientModel:
    """Loads the primary model, in several attempts with growing pauses; without it the fallback serves alone.

    A fallback that cannot be loaded fails the deployment. `user_config={"primary": path}` has the primary loaded again,
    when its file has come.
    """

    def __init__(self, primary: str, fallback: str, max_retries: int = 3, retry_delay_s: float = 1.0) -> None:
        self.fallback_model = joblib.load(fallback)
        self.max_retries = max_retries
        self.retry_delay_s = retry_delay_s
        self.model: Any = None
        try:
            self.model = self._load_model_with_retry(primary)
        except Exception:
            logger.exception("The primary model cannot be loaded, the fallback serves alone")

    def _load_model_with_retry(self, path: str) -> Any:
        for attempt in range(self.max_retries):
            try:
                return joblib.load(path)
            except Exception:
                if attempt == self.max_retries - 1:
                    raise
                time.sleep(self.retry_delay_s * 2**attempt)
        raise ValueError(f"max_retries must be at least 1, not {self.max_retries}")

    def reconfigure(self, config: dict[str, Any]) -> None:
        self.model = self._load_model_with_retry(config["primary"])

    def __call__(self, request: Rows) -> dict[str, Any]:
        rows = np.array(request["data"])
        if self.model is not None:
            try:
                return {"prediction": self.model.predict(rows).tolist(), "model": "primary"}
            except Exception as error:
                logger.warning("Primary model failed: %s; the fallback answers", error)
        return {"prediction": self.fallback_model.predict(rows).tolist(), "model": "fallback"}


app = ResilientModel.bind(model_file("primary_model.pkl"), model_file("fallback_model.pkl"))
without_primary = ResilientModel.bind(
    missing_file("primary_model.pkl"), model_file("fallback_model.pkl"), retry_delay_s=0.05
)
