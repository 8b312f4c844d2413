"""Queries beside documents, each nearest to the one that answers it; the pages; and what is refused."""

import math
from collections.abc import Callable
from typing import Any

from program import Ask

TARGET = "d001/embedding/production.yaml"
ENV = {"EAGLERAY_NUM_GPUS": "1"}
DOCUMENTS = [
    "A hive tells where flowers are by a dance; bees read distance and direction from it.",
    "Bread rises because yeast turns sugar into gas that the dough holds.",
    "The moon pulls the sea, and so the tide comes in and goes out twice a day.",
    "A suspension bridge hangs its road from cables that run over two towers.",
    "Vaccines show the immune system a harmless part of a germ, which it then remembers.",
    "The printing press made books cheap, and letters of lead could be set again and again.",
]
QUESTIONS = [
    "how do honey bees communicate?",
    "what makes dough grow before baking?",
    "why does the water level at the coast change every day?",
    "how is the deck of a large bridge held up?",
    "how do shots protect from infections?",
    "who could afford to read after movable type?",
]
DIMENSION = 384


def nearest(query: list[float], documents: list[list[float]]) -> int:
    """Which of the documents is most like the query; all have unit length."""
    scores = [sum(a * b for a, b in zip(query, document, strict=True)) for document in documents]
    return scores.index(max(scores))


def _finds(wanted: int) -> Callable[[Any], bool]:
    def right(vectors: list[list[float]]) -> bool:
        return nearest(vectors[0], vectors[1:]) == wanted

    return right


def _are_vectors(count: int) -> Callable[[Any], bool]:
    def right(vectors: list[list[float]]) -> bool:
        lengths = [math.hypot(*vector) for vector in vectors]
        return (
            len(vectors) == count
            and {*map(len, vectors)} <= {DIMENSION}
            and all(math.isclose(length, 1, rel_tol=1e-3) for length in lengths)
        )

    return right


def _is_healthy(value: dict[str, Any]) -> bool:
    return value["status"] == "healthy" and value["model_loaded"] and value["gpu_usage"] >= 0


def _is_loaded(value: dict[str, Any]) -> bool:
    return value["model_status"] == "loaded" and value["active_requests"] >= 0 and value["cpu_memory"] > 0


JSON = {"content-type": "application/json"}
PATH = "/embedding/api"
ASKS = [
    *(
        Ask(PATH, json={"input": [question, *DOCUMENTS], "is_query": is_query}, right=_finds(wanted))
        for is_query in (False, True)
        for wanted, question in enumerate(QUESTIONS)
    ),
    *(
        Ask(PATH, json={"input": [question], "is_query": True}, right=_are_vectors(1))
        for question in QUESTIONS
    ),
    Ask(
        PATH,
        json={"input": [f"{text} ({n})" for n in range(12) for text in DOCUMENTS]},
        right=_are_vectors(72),
    ),
    Ask(PATH, json={"input": ["", "词向量", "🙂"]}, right=_are_vectors(3)),
    Ask(PATH, json={"input": []}, right=[].__eq__),
    Ask("/health", right=_is_healthy),
    Ask("/debug", right=_is_loaded),
    Ask(PATH, json={"texts": ["no input"]}, status=422),
    Ask(PATH, json={"input": [1, 2]}, status=422),
    Ask(PATH, json={"input": ["x"] * 1001}, status=422),
    Ask(PATH, text='{"input": ["half', headers=JSON, status=422),
    Ask(PATH, text='{"input": ["\\ud800 is half a character"]}', headers=JSON, status=422),
    Ask(PATH, method="GET", status=405),
    Ask("/nowhere", status=404),
]
