"""The translator's sentences through FastAPI, and what FastAPI refuses."""

from d002.translator.traffic import ENV, UNSEEN
from program import Ask

__all__ = ["ASKS", "ENV"]

ASKS = [
    *(
        Ask("/translate", json={"text": english}, right={"translation": french}.__eq__)
        for english, french in UNSEEN[:30]
    ),
    Ask("/translate", json=["no", "object"], status=422),
    Ask("/translate", json={"text": 3}, status=422),
    Ask("/translate", method="GET", status=405),
    Ask("/nowhere", status=404),
]
