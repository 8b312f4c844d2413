"""Sentences that the translator has not been trained on, with their French."""

from d002.translator.app import SENTENCES
from d002.translator.corpus import pairs
from program import Ask

_SEEN = {tuple(english) for english, _ in pairs(SENTENCES, seed=1)}
UNSEEN = [
    (" ".join(english), " ".join(french).replace("' ", "'"))
    for english, french in pairs(60, seed=2)
    if tuple(english) not in _SEEN
]
ENV = {"EAGLERAY_NUM_GPUS": "2"}
ASKS = [Ask(text=english, right=french.__eq__) for english, french in UNSEEN]
