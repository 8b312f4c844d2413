"""A parallel corpus that needs no download: English sentences of a small grammar, each with its French."""

from __future__ import annotations

import random

_NOUNS = {  # English: (French, feminine)
    "cat": ("chat", False),
    "dog": ("chien", False),
    "bird": ("oiseau", False),
    "boy": ("garçon", False),
    "book": ("livre", False),
    "bread": ("pain", False),
    "house": ("maison", True),
    "girl": ("fille", True),
    "table": ("table", True),
    "car": ("voiture", True),
    "apple": ("pomme", True),
    "letter": ("lettre", True),
}
_ADJECTIVES = {  # English: (masculine, feminine, before the noun)
    "black": ("noir", "noire", False),
    "green": ("vert", "verte", False),
    "white": ("blanc", "blanche", False),
    "red": ("rouge", "rouge", False),
    "small": ("petit", "petite", True),
    "big": ("grand", "grande", True),
}
_VERBS = {"sees": "voit", "wants": "veut", "takes": "prend", "finds": "trouve", "has": "a"}
_PLACES = {"today": "aujourd'hui", "here": "ici", "often": "souvent", "": ""}
_VOWELS = "aeiou"
_SUBJECTS = ["cat", "dog", "bird", "boy", "girl"]


def _phrase(draw: random.Random, nouns: list[str]) -> tuple[list[str], list[str]]:
    """A noun with its article and maybe an adjective, which French puts before or behind it."""
    noun = draw.choice(nouns)
    french, feminine = _NOUNS[noun]
    definite, plain = draw.random() < 0.5, draw.random() < 0.35
    words = [french]
    if not plain:
        adjective = draw.choice(list(_ADJECTIVES))
        masculine, feminine_form, before = _ADJECTIVES[adjective]
        form = feminine_form if feminine else masculine
        words = [form, french] if before else [french, form]
    english = [noun] if plain else [adjective, noun]
    if not definite:
        article = "an" if english[0][0] in _VOWELS else "a"
        return [article, *english], ["une" if feminine else "un", *words]
    elided = words[0][0] in _VOWELS
    return ["the", *english], ["l'" if elided else "la" if feminine else "le", *words]


def pairs(count: int, seed: int) -> list[tuple[list[str], list[str]]]:
    """So many sentences in words: [(["the", "cat", ...], ["le", "chat", ...]), ...]."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        subject, sujet = _phrase(draw, _SUBJECTS)
        thing, objet = _phrase(draw, list(_NOUNS))
        verb, place = draw.choice(list(_VERBS)), draw.choice(list(_PLACES))
        english = [*subject, verb, *thing, *place.split()]
        found.append((english, [*sujet, _VERBS[verb], *objet, *_PLACES[place].split()]))
    return found
