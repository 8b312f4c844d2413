"""Texts with the sentence that sums each up; what they leave behind may not pile up."""

from collections.abc import Callable
from typing import Any

from d001.embedding.traffic import JSON
from program import Ask

ENV = {"EAGLERAY_NUM_GPUS": "1"}
ROUNDS = 20
SENTENCES = 40
MOST_ALIVE = 10 * SENTENCES
"""Requests under way have theirs; four connections never leave as much as this."""
TEXTS = {
    "Whales are mammals that live in the sea": "They breathe air. Whales are mammals that live in the sea. It rained",
    "The town built a new library": "The town built a new library. It has many books. I had soup",
}


def _sums_up(sentence: str) -> Callable[[Any], bool]:
    return lambda value: value["sentence"] == sentence and value["sentences_alive"] < MOST_ALIVE


ASKS = [
    *(Ask("/api", json={"text": text}, right=_sums_up(sentence)) for sentence, text in TEXTS.items()),
    Ask(
        "/api",
        json={"text": ". ".join(f"line {n} of the log" for n in range(SENTENCES))},
        right=lambda value: value["sentences_alive"] < MOST_ALIVE,
    ),
    Ask("/api", json={"text": "..."}, right=lambda value: value["sentence"] == "..."),
    Ask("/api", json={"text": ""}, status=422),
    Ask("/api", json={"text": None}, status=422),
    Ask("/api", text='{"text": "\\ud800"}', headers=JSON, status=422),
]
