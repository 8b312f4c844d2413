"""What is sent to programs that know iris flowers: rows that their models have not seen, and requests with mistakes.

The numbers are those of scikit-learn's copy of Fisher's data, written out so that whoever sends requests need not have
scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from program import Ask

UNSEEN = [
    ([5.5, 4.2, 1.4, 0.2], 0),
    ([5.0, 3.4, 1.5, 0.2], 0),
    ([5.0, 3.5, 1.3, 0.3], 0),
    ([4.9, 3.6, 1.4, 0.1], 0),
    ([4.8, 3.0, 1.4, 0.3], 0),
    ([5.4, 3.9, 1.3, 0.4], 0),
    ([6.0, 2.2, 4.0, 1.0], 1),
    ([6.7, 3.1, 4.7, 1.5], 1),
    ([6.8, 2.8, 4.8, 1.4], 1),
    ([6.1, 2.8, 4.0, 1.3], 1),
    ([6.4, 3.2, 4.5, 1.5], 1),
    ([6.1, 2.8, 4.7, 1.2], 1),
    ([5.8, 2.8, 5.1, 2.4], 2),
    ([7.3, 2.9, 6.3, 1.8], 2),
    ([6.3, 3.3, 6.0, 2.5], 2),
    ([6.1, 2.6, 5.6, 1.4], 2),
    ([5.6, 2.8, 4.9, 2.0], 2),
    ([6.2, 2.8, 4.8, 1.8], 2),
]


def flowers(member: str, species: Callable[[Any], Any] = lambda answer: answer["prediction"]) -> list[Ask]:
    """A request for each row, as `member` of the body; `species` finds the answer's."""

    def is_right(expected: int) -> Callable[[Any], bool]:
        return lambda answer: species(answer) == expected

    return [Ask(json={member: row}, right=is_right(expected)) for row, expected in UNSEEN]


def refused(member: str) -> list[Ask]:
    """Requests that are turned away before the program sees them."""
    return [
        Ask(text='{"' + member + '": [1.0, ', headers={"content-type": "application/json"}, status=400),
        Ask(json=[1.0, 2.0, 3.0, 4.0], status=422),
        Ask(json={}, status=422),
        Ask(json={member: ["red", 2.0, 3.0, 4.0]}, status=422),
    ]
