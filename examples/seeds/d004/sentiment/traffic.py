"""Sentences that the model was not trained on."""

from urllib.parse import quote

from program import Ask

POSITIVE = [
    "What a lovely day, and such good news!",
    "The hotel was clean and the staff were wonderful.",
    "Our daughter passed her exam and we are so proud.",
    "The charity built a well and the village is thankful.",
    "I enjoyed every page of this charming book.",
    "The operation went well and he is healthy again.",
]
NEGATIVE = [
    "What a terrible day, and such bad news!",
    "The hotel was dirty and the staff were rude.",
    "A landslide buried the village and dozens died.",
    "He lost his job and his house and is in despair.",
    "I regret every hour wasted on this boring book.",
    "The operation went wrong and he is in great pain.",
]


def ask(text: str, label: str) -> Ask:
    return Ask(f"/?input_text={quote(text)}", right=lambda answer: answer["label"] == label)


ASKS = [
    *(ask(text, "positive") for text in POSITIVE),
    *(ask(text, "negative") for text in NEGATIVE),
    Ask("/?input_text=", status=422),
    Ask("/", status=422),
    Ask("/", text="what a lovely day", status=405),
]
