"""All flowers at once, more rows than a batch holds, and requests with mistakes."""

from d000.flowers import UNSEEN, refused
from program import Ask

ROWS = [row for row, _ in UNSEEN]
SPECIES = [species for _, species in UNSEEN]

ASKS = [
    Ask(json={"data": ROWS}, right=lambda answer: answer["prediction"] == SPECIES and answer["batches"] == 1),
    Ask(
        json={"data": ROWS * 6},
        right=lambda answer: answer["prediction"] == SPECIES * 6 and answer["batches"] == 2,
    ),
    Ask(json={"data": ROWS[:1]}, right=lambda answer: answer["request_id"] >= 1 and answer["replica_id"]),
    *refused("data"),
    Ask(json={"data": [[5.1, 3.5]]}, status=500),
]
