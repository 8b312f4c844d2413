"""Stands in for models that would be downloaded: each is all-MiniLM-L6-v2, whose weights come with a package."""

from typing import Any

from models.minilm import load


class SentenceTransformer:
    """Embeds a text, or each of several."""

    def __init__(self, name: str, **_: Any) -> None:
        self._model = load()

    def encode(self, sentences: Any, **_: Any) -> Any:
        is_one = isinstance(sentences, str)
        rows = self._model.encode([sentences] if is_one else list(sentences))
        return rows[0] if is_one else rows


class CrossEncoder:
    """Scores pairs of texts: each token of the first looks for its nearest one of the second."""

    def __init__(self, name: str, **_: Any) -> None:
        self._model = load()

    def predict(self, pairs: Any, **_: Any) -> list[float]:
        scores = []
        for first, second in pairs:
            asked, found = self._model.tokens([first])[0], self._model.tokens([second])[0]
            scores.append(float((asked @ found.T).max(axis=1).mean()))
        return scores
