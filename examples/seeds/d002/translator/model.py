"""Statistical translation, learned from sentence pairs alone: word alignment, phrases, a language model, a beam.

Alignment by expectation maximisation (IBM model 1, both directions); phrases that the alignments agree on; the most
probable sequence of phrases under their probabilities and a bigram model of the target language.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict

Words = tuple[str, ...]
Pair = tuple[list[str], list[str]]
_LONGEST = 4
_BEAM = 20
_WORD = re.compile(r"[\w]+'?|[^\w\s]")


def _word_probabilities(pairs: list[Pair], turns: int = 6) -> dict[tuple[str, str], float]:
    """P(target word | source word), by expectation maximisation from a uniform start."""
    chances: dict[tuple[str, str], float] = defaultdict(lambda: 1.0)
    for _ in range(turns):
        counts: dict[tuple[str, str], float] = defaultdict(float)
        totals: dict[str, float] = defaultdict(float)
        for source, target in pairs:
            for word in target:
                whole = sum(chances[other, word] for other in source)
                for other in source:
                    share = chances[other, word] / whole
                    counts[other, word] += share
                    totals[other] += share
        chances = defaultdict(float, {key: count / totals[key[0]] for key, count in counts.items()})
    return chances


class PhraseTranslator:
    """Translates sentences of words that it has seen; words that it has not seen stay as they are."""

    def __init__(self, pairs: list[Pair]) -> None:
        phrases: dict[Words, Counter[Words]] = defaultdict(Counter)
        self._bigrams: dict[str, Counter[str]] = defaultdict(Counter)
        forward = _word_probabilities(pairs)
        backward = _word_probabilities([(target, source) for source, target in pairs])
        for source, target in pairs:
            for left, right in zip(["<s>", *target], [*target, "</s>"], strict=True):
                self._bigrams[left][right] += 1
            for words, meaning in _phrases(source, target, forward, backward):
                phrases[words][meaning] += 1
        self._phrases = {
            words: [(meaning, math.log(count / found.total())) for meaning, count in found.most_common(8)]
            for words, found in phrases.items()
        }
        self._vocabulary = len({word for _, target in pairs for word in target})

    def __len__(self) -> int:
        return len(self._phrases)

    def translate(self, text: str) -> str:
        words = _WORD.findall(text.lower())
        return " ".join(self._search(words)).replace("' ", "'")

    def _fluency(self, left: str, right: str) -> float:
        found = self._bigrams[left] if left in self._bigrams else Counter()
        return math.log((found[right] + 0.01) / (found.total() + 0.01 * self._vocabulary))

    def _search(self, words: list[str]) -> Words:
        """The best translation, from left to right, with the best beginnings kept for each number of words done."""
        beams: list[dict[tuple[str, Words], float]] = [{} for _ in range(len(words) + 1)]
        beams[0]["<s>", ()] = 0.0
        for done, beam in enumerate(beams[:-1]):
            best = sorted(beam.items(), key=lambda item: -item[1])[:_BEAM]
            for length in range(1, min(_LONGEST, len(words) - done) + 1):
                source = tuple(words[done : done + length])
                choices = self._phrases.get(source) or ([(source, -10.0)] if length == 1 else [])
                for (last, sofar), score in best:
                    for meaning, chance in choices:
                        total, left = (
                            score + chance - 1.0,
                            last,
                        )  # a price for each phrase: longer ones know more
                        for word in meaning:
                            total, left = total + self._fluency(left, word), word
                        key = (left, sofar + meaning)
                        if total > beams[done + length].get(key, -math.inf):
                            beams[done + length][key] = total
        ends = {key[1]: score + self._fluency(key[0], "</s>") for key, score in beams[-1].items()}
        return max(ends, key=lambda sentence: ends[sentence])


def _phrases(
    source: list[str],
    target: list[str],
    forward: dict[tuple[str, str], float],
    backward: dict[tuple[str, str], float],
) -> list[tuple[Words, Words]]:
    """Runs of words whose alignments stay within each other."""
    ahead = {
        (max(range(len(source)), key=lambda i: forward[source[i], word]), j) for j, word in enumerate(target)
    }
    back = {
        (i, max(range(len(target)), key=lambda j: backward[target[j], word])) for i, word in enumerate(source)
    }
    links = ahead & back
    linked_source, linked_target = {i for i, _ in links}, {j for _, j in links}
    links |= {(i, j) for i, j in ahead | back if i not in linked_source or j not in linked_target}
    found = []
    for begin in range(len(source)):
        for end in range(begin + 1, min(begin + _LONGEST, len(source)) + 1):
            inside = [j for i, j in links if begin <= i < end]
            if not inside:
                continue
            low, high = min(inside), max(inside) + 1
            if all(begin <= i < end for i, j in links if low <= j < high):
                found.append((tuple(source[begin:end]), tuple(target[low:high])))
    return found
