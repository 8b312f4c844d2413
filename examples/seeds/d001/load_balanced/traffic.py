"""Passages that are put in the right order, and what is refused."""

from collections.abc import Callable
from typing import Any

from d001.embedding.traffic import DOCUMENTS, JSON, QUESTIONS
from program import Ask

ENV = {"EAGLERAY_NUM_GPUS": "2"}
ROUNDS = 20


def _begins_with(wanted: int) -> Callable[[Any], bool]:
    def right(value: dict[str, Any]) -> bool:
        order, is_short = value["order"], value["mode"] == "short"
        return (
            order[0] == wanted
            and sorted(order) == list(range(len(DOCUMENTS)))
            and is_short == (value["request_count"] > 100)
        )

    return right


ASKS = [
    *(
        Ask("/api", json={"query": question, "passages": DOCUMENTS}, right=_begins_with(wanted))
        for wanted, question in enumerate(QUESTIONS)
    ),
    Ask("/api", json={"query": "nothing to rank", "passages": []}, status=422),
    Ask("/api", json={"passages": DOCUMENTS}, status=422),
    Ask("/api", text='{"query": "\\ud800", "passages": ["x"]}', headers=JSON, status=422),
    Ask("/api", status=405),
]
