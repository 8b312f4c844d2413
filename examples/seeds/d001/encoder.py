"""Vectors for retrieval: queries and documents are embedded each in its way, by all-MiniLM-L6-v2."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.minilm import load

BATCH_SIZE = 32
_WINDOW_WORDS = 150
"""The model reads 256 tokens, and a word of English has 1.3 on average."""


class Encoder:
    """May be called by several threads at a time; a call uses one core."""

    def __init__(self) -> None:
        self._model = load()
        self.encode([""], is_query=True)  # the first run of a model takes longest: not at a user's cost

    def encode(self, texts: list[str], is_query: bool) -> Any:
        """A row of unit length for each text. Of a query its beginning counts, of a document all of it.

        A document that is longer than the model reads is cut into windows; its vector is the mean of theirs.
        """
        if is_query:
            return self._rows(texts)
        windows = [_windows(text) for text in texts]
        rows = self._rows([window for one in windows for window in one])
        ends = np.cumsum([len(one) for one in windows])[:-1]
        means = np.array([part.mean(axis=0) for part in np.split(rows, ends)])
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def _rows(self, texts: list[str]) -> Any:
        starts = range(0, len(texts), BATCH_SIZE)
        return np.concatenate([self._model.encode(texts[start : start + BATCH_SIZE]) for start in starts])


def _windows(text: str) -> list[str]:
    words = text.split()
    starts = range(0, len(words), _WINDOW_WORDS)
    return [" ".join(words[start : start + _WINDOW_WORDS]) for start in starts] or [""]
