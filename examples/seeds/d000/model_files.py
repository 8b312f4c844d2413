"""Where the programs of this document find their model files; what is missing is trained on the spot.

The folder is `d000/trained`, or the one that the environment variable `D000_MODELS` names. `python -m d000.train`
makes all files at once.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(os.environ.get("D000_MODELS") or Path(__file__).with_name("trained"))


def model_file(name: str) -> str:
    """The path of a model file that `d000.train` can make; it is there when this returns. KeyError for other names."""
    path = FOLDER / name
    if not path.exists():
        from d000 import train  # takes a second, which only whoever trains should spend

        train.make(name, FOLDER)
    return str(path)


def missing_file(name: str) -> str:
    """The path of a file that nobody makes, for what happens then."""
    return str(FOLDER / f"missing-{name}")
