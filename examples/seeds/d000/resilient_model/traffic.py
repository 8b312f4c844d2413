"""All flowers, by the primary model; rows that it fails at, by the fallback; requests with mistakes."""

from d000.flowers import UNSEEN, refused
from program import Ask

FLOWERS = {"data": [row for row, _ in UNSEEN]}
SPECIES = [species for _, species in UNSEEN]

ASKS = [
    Ask(json=FLOWERS, right={"prediction": SPECIES, "model": "primary"}.__eq__),
    Ask(json={"data": [[5.1, 3.5], [6.7, 3.1]]}, right={"prediction": [2, 2], "model": "fallback"}.__eq__),
    *refused("data"),
]
