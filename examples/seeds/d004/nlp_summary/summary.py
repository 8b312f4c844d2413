"""An extractive summary: the sentences that say most of what all the others say (LexRank, Erkan and Radev, 2004)."""

from __future__ import annotations

import re

import numpy as np

from eagleray import serve
from models import minilm

_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
DAMPING = 0.85
STEPS = 50  # of the power iteration: 0.85 ** 50 is 0.0003


def sentences(text: str) -> list[str]:
    return [sentence for sentence in _END.split(text.strip()) if sentence]


# The costliest of the models: two replicas share the requests.
@serve.deployment(num_replicas=2)
class Summarizer:
    """Compares sentences by their embeddings, and keeps those that are most central."""

    def __init__(self, max_sentences: int = 3) -> None:
        self.model = minilm.load()
        self.max_sentences = max_sentences

    def __call__(self, text: str) -> str:
        """The most central sentences, in their order; the whole text, if it is as short as that."""
        found = sentences(text)
        if len(found) <= self.max_sentences:
            return text
        vectors = self.model.encode(found)
        likeness = np.clip(vectors @ vectors.T, 0, None)
        likeness /= likeness.sum(axis=1, keepdims=True)
        rank = np.full(len(found), 1 / len(found))
        for _ in range(STEPS):
            rank = (1 - DAMPING) / len(found) + DAMPING * rank @ likeness
        chosen = sorted(np.argsort(-rank, kind="stable")[: self.max_sentences])
        return " ".join(found[index] for index in chosen)
