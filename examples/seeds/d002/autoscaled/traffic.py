"""Sentences that mean the same, and sentences that do not."""

from program import Ask

ASKS = [
    Ask(
        json={"first": "The cat sleeps.", "second": "A kitten is asleep."},
        right=lambda got: got["likeness"] > 0.6,
    ),
    Ask(
        json={"first": "The cat sleeps.", "second": "Shares fell on Monday."},
        right=lambda got: got["likeness"] < 0.3,
    ),
    Ask(json={"first": "The cat sleeps."}, status=422),
]
ROUNDS = 20
