"""Tells whether a text is positive or negative, in a replica with a GPU.

cd examples/seeds && EAGLERAY_NUM_GPUS=1 eagleray run d002.sentiment.app:app
curl -d 'The soup tasted horrible.' localhost:8000
"""

from __future__ import annotations

from typing import Any

from sklearn.linear_model import LogisticRegression

from d002.sentiment.reviews import BAD, GOOD
from eagleray import serve
from models.minilm import load


@serve.deployment(ray_actor_options={"num_gpus": 1})
class SentimentAnalyzer:
    """Learns from a few reviews when it starts."""

    def __init__(self) -> None:
        self.embed_model = load()
        labels = ["POSITIVE"] * len(GOOD) + ["NEGATIVE"] * len(BAD)
        self.classifier = LogisticRegression(C=10).fit(self.embed_model.encode([*GOOD, *BAD]), labels)

    def __call__(self, text: str) -> dict[str, Any]:
        (chances,) = self.classifier.predict_proba(self.embed_model.encode([text]))
        best = int(chances.argmax())
        return {"label": str(self.classifier.classes_[best]), "score": float(chances[best])}


app = SentimentAnalyzer.bind()
