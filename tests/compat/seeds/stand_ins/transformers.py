"""Stands in for pipelines whose models would be downloaded: those of `examples/seeds`, learned when they are made."""

from typing import Any


def pipeline(task: str, model: Any = None, device: Any = None, **_: Any) -> Any:
    """A callable of one text that answers as that task's pipeline does. ValueError for a task without a model."""
    if task == "translation_en_to_fr":
        from d002.translator.corpus import pairs
        from d002.translator.model import PhraseTranslator

        translator = PhraseTranslator(pairs(800, seed=1))
        return lambda text: [{"translation_text": translator.translate(text)}]
    if task == "sentiment-analysis":
        from d002.sentiment.app import SentimentAnalyzer

        analyzer = SentimentAnalyzer.func_or_class()
        return lambda text: [analyzer(text)]
    raise ValueError(f"there is no model for the task '{task}' here")
