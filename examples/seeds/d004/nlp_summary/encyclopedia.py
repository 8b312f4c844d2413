"""The articles, and the search for them: terms weighted by how rare they are, over titles and texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ARTICLES = Path(__file__).with_name("articles.txt")
TITLE_COUNTS = 5  # times as much as a word of the text


@dataclass(frozen=True)
class Article:
    title: str
    text: str


def articles() -> list[Article]:
    """All of them, in the order of the file."""
    parts = ARTICLES.read_text().removeprefix("# ").split("\n\n# ")
    return [Article(title, text.strip()) for title, _, text in (part.partition("\n") for part in parts)]


class Encyclopedia:
    """Finds articles by keywords."""

    def __init__(self) -> None:
        # Takes more than a second, which only the processes that use it should need.
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.articles = articles()
        texts = [f"{article.title} " * TITLE_COUNTS + article.text for article in self.articles]
        self._vectorizer = TfidfVectorizer(stop_words="english", sublinear_tf=True)
        self._weights = self._vectorizer.fit_transform(texts)

    def search(self, keywords: str) -> list[Article]:
        """The articles that have one of the words, the best first."""
        scores = (self._weights @ self._vectorizer.transform([keywords]).T).toarray()[:, 0]
        return [self.articles[index] for index in (-scores).argsort(kind="stable") if scores[index] > 0]

    def fetch(self, keywords: str) -> Article | None:
        """The best article, or None if no article has one of the words."""
        return next(iter(self.search(keywords)), None)
