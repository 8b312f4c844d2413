"""Questions, each with the document that must come first and what the answer must contain."""

from collections.abc import Callable
from typing import Any

from program import Ask

TARGET = "d002/rag/config.yaml"
ENV = {"EAGLERAY_NUM_GPUS": "2"}

QUESTIONS = [
    ("How old is the sun?", 1, "4.6 billion years"),
    ("  how   many bones are there in a human body ", 9, "206"),
    ("Why does bread dough rise?", 4, "gas"),
    ("What keeps steel from rusting?", 14, "Chromium"),
    ("Who invented printing with movable type?", 19, "Gutenberg"),
    ("How do bats navigate in the dark?", 10, "echoes"),
    ("How long is a marathon?", 24, "42.195"),
    ("How many keys are there on a piano?", 21, "88"),
]


def _right(source: int, words: str) -> Callable[[Any], bool]:
    return lambda found: (
        found["sources"][0] == source and len(found["sources"]) == 5 and words in found["answer"]
    )


ASKS = [
    *(Ask("/rag", json={"query": query}, right=_right(source, words)) for query, source, words in QUESTIONS),
    Ask("/rag", json={"query": ""}, status=422),
    Ask("/rag", json={}, status=422),
    Ask("/v1/models", right=lambda found: found["data"][0]["id"] == "default"),
    Ask("/v1/chat/completions", json={"model": "default"}, status=400),
    Ask("/v1/chat/completions", json={"model": "gpt", "messages": []}, status=404),
]
