"""All articles of the encyclopedia: what both models say about them."""

from d004.nlp_summary.encyclopedia import articles
from d004.nlp_summary.summary import sentences
from d004.nlp_summary.traffic import SAD
from program import Ask

_SAD = {title for _, title in SAD}


def both(title: str, text: str):
    """Right is the mood of the article, and two of its sentences."""

    def right(answer: dict) -> bool:
        kept = [sentence for sentence in sentences(text) if sentence in answer["summary"]]
        is_sad = answer["sentiment"] < 0.5
        return set(answer) == {"sentiment", "summary"} and is_sad == (title in _SAD) and len(kept) == 2

    return right


ROUNDS = 3
ASKS = [
    *(Ask(text=article.text, right=both(article.title, article.text)) for article in articles()),
    Ask(text="All is well.", right=lambda answer: answer["summary"] == "All is well."),
    Ask(text=" \n", status=422),
]
