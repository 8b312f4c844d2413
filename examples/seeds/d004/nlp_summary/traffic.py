"""Searches: pleasant articles, sad ones, none."""

from urllib.parse import quote

from d004.nlp_summary.encyclopedia import articles
from d004.nlp_summary.summary import sentences
from program import Ask

_TEXTS = {article.title: article.text for article in articles()}
# What is searched for, which article it is, and who and what must be among the entities that are found in it.
PLEASANT = [
    ("physicist", "Physicist", {"Isaac Newton", "Michael Faraday", "London"}),
    ("radium Sorbonne", "Marie Curie", {"Marie Curie", "Pierre Curie", "Warsaw", "Paris"}),
    ("Einstein", "Albert Einstein", {"Albert Einstein", "Arthur Eddington", "Munich"}),
    ("nuclear fission", "Lise Meitner", {"Otto Hahn", "Max Planck", "Vienna", "Berlin"}),
    ("honey", "Honey bee", {"Karl von Frisch", "Austria"}),
    ("penicillin", "Penicillin", {"Alexander Fleming", "Howard Florey", "the University of Oxford"}),
    ("apollo rocket", "Moon landing", {"NASA", "Neil Armstrong", "Buzz Aldrin", "Michael Collins"}),
    ("jazz trumpet", "Jazz", {"New Orleans", "Louis Armstrong", "Duke Ellington"}),
    ("solar panels", "Solar power", {"Bell Laboratories", "India", "Kenya"}),
    ("chess champion", "Chess", {"Garry Kasparov", "Moscow"}),
    ("bicycle", "Bicycle", {"Karl Drais", "Mannheim", "John Starley"}),
    ("coral", "Coral reef", {"Charles Darwin", "Australia"}),
]
SAD = [
    ("fire of london", "Great Fire of London"),
    ("titanic iceberg", "Sinking of the Titanic"),
    ("chernobyl", "Chernobyl disaster"),
    ("famine", "Great Famine"),
    ("influenza", "Influenza pandemic of 1918"),
    ("tulips tulip mania", "Tulip mania"),
]


def summarizes(title: str, named: set[str]):
    """Right are three sentences of the article, in order, and at most ten entities, the expected among them."""

    def right(answer: dict) -> bool:
        whole, kept = sentences(_TEXTS[title]), sentences(answer["summary"])
        found = answer["named_entities"]
        return (
            answer["success"]
            and answer["title"] == title
            and len(kept) == 3
            and kept == [sentence for sentence in whole if sentence in kept]
            and len(found) <= 10
            and min(entity["score"] for entity in found) >= 0.9
            and named <= {entity["text"] for entity in found}
        )

    return right


def refuses(title: str):
    return lambda answer: not answer["success"] and answer["title"] == title and answer["summary"] == ""


def search(term: str) -> str:
    return f"/?search_term={quote(term)}"


ROUNDS = 3
SUMMARIZED = [Ask(search(term), right=summarizes(title, named)) for term, title, named in PLEASANT]
REFUSED = [Ask(search(term), status=422, right=refuses(title)) for term, title in SAD]
ASKS = [
    *SUMMARIZED,
    *REFUSED,
    Ask(search("zzyzx"), status=404, right=lambda answer: not answer["success"]),
    Ask(search(""), status=422),
    Ask("/", status=422),
]
