"""Texts of each domain with their subjects; the domain is legal unless a request says otherwise."""

from program import Ask

_TEXTS = [
    ("legal", "The supplier never delivered the goods that we had agreed upon.", "contract"),
    ("legal", "He stole a car and sold it.", "crime"),
    ("medical", "I have an itching red rash on my arm.", "skin"),
    ("medical", "My blood pressure is too high.", "heart"),
    ("finance", "How much interest will I pay on my mortgage?", "credit"),
    ("finance", "Can I deduct my office from what I owe the revenue?", "taxes"),
]
ASKS = [
    *(
        Ask("/predict", json={"domain": domain, "text": text}, right={"result": s}.__eq__)
        for domain, text, s in _TEXTS
    ),
    Ask("/predict", json={"text": "My wife wants a divorce."}, right={"result": "family"}.__eq__),
    Ask("/predict", json={"domain": "sports", "text": "Goal!"}, right={"error": "unknown domain"}.__eq__),
    Ask("/predict", json={"domain": "legal"}, status=422),
]
