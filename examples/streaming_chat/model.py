"""A language model small enough to train in a second: words that follow two words, counted in Python's own manual.

The text is `pydoc_data.topics`, 700 kB of English that every Python has. Sentences come out that sound like a manual,
one word at a time, which is what a streaming service needs.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from pydoc_data.topics import topics

_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*|[.,;:]")
_END = "."


class TrigramModel:
    """Knows which words follow which two. `train` reads the whole text."""

    def __init__(self) -> None:
        self._after_two: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._after_one: dict[str, list[str]] = defaultdict(list)

    @classmethod
    def train(cls) -> TrigramModel:
        model = cls()
        for text in topics.values():
            words = [word.lower() for word in _WORD.findall(text)]
            for first, second, third in zip(words, words[1:], words[2:], strict=False):
                model._after_two[first, second].append(third)
                model._after_one[first].append(second)
        return model

    def __len__(self) -> int:
        return len(self._after_two)

    def words(self, prompt: str, limit: int, seed: int) -> Iterator[str]:
        """Goes on from the last two words of the prompt, until a sentence ends or `limit` words have come."""
        draw = random.Random(seed)
        known = [word for word in _WORD.findall(prompt.lower()) if word in self._after_one]
        first, second = (["", "the", *known])[-2:]
        for _ in range(limit):
            choices = self._after_two.get((first, second)) or self._after_one[second]
            if not choices:
                return
            first, second = second, draw.choice(choices)
            yield second
            if second == _END:
                return
