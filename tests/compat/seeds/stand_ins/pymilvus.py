"""Stands in for a Milvus on another host, filled with the documents of `examples/seeds/d002/rag`.

Its search compares with each document. Hits come as articles read them: one list of dicts with `id` and `text`.
"""

from typing import Any

import numpy as np

from d002.rag.corpus import DOCUMENTS
from models.minilm import load


class MilvusClient:
    def __init__(self, uri: str, **_: Any) -> None:
        self._rows = load().encode([text for _, text in DOCUMENTS])

    def search(self, collection_name: str, data: Any, limit: int = 10, **_: Any) -> list[dict[str, Any]]:
        scores = self._rows @ np.asarray(data[0])
        nearest = np.argsort(-scores)[:limit]
        return [
            {"id": DOCUMENTS[n][0], "text": DOCUMENTS[n][1], "distance": float(scores[n])} for n in nearest
        ]
