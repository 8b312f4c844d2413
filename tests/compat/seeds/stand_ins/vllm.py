"""Stands in for an engine that needs GPUs and a large model: it quotes the known document nearest to the prompt."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from d002.rag.corpus import DOCUMENTS
from models.minilm import load


class AsyncEngineArgs:
    def __init__(self, model: str, **_: Any) -> None:
        self.model = model


class SamplingParams:
    def __init__(self, max_tokens: int = 64, **_: Any) -> None:
        self.max_tokens = max_tokens


class AsyncLLMEngine:
    @classmethod
    def from_engine_args(cls, _: AsyncEngineArgs) -> "AsyncLLMEngine":
        return cls()

    async def generate(self, prompt: str, params: SamplingParams, request_id: str) -> AsyncIterator[Any]:
        """The text so far, longer by a word each time."""
        rows = load().encode([prompt, *(text for _, text in DOCUMENTS)])
        words = DOCUMENTS[int((rows[1:] @ rows[0]).argmax())][1].split()[: params.max_tokens]
        for length in range(1, len(words) + 1):
            yield SimpleNamespace(outputs=[SimpleNamespace(text=" ".join(words[:length]))])
