"""A router before three models, one for each domain, chosen by a field of the request.

cd examples/seeds && eagleray run d002.model_router.app:app
curl -H 'content-type: application/json' -d '{"domain": "medical", "text": "My knee hurts."}' localhost:8000/predict
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, HTTPException

from eagleray import serve
from models.minilm import load

LEGAL = {
    "contract": "A dispute about a contract, an agreement, a delivery or a breach of its terms.",
    "crime": "A crime such as theft, fraud or assault, and its punishment.",
    "family": "Marriage, divorce, custody of children and inheritance.",
}
MEDICAL = {
    "heart": "The heart and the circulation of blood: chest pain, pulse and blood pressure.",
    "bones": "Bones, joints and muscles: fractures, back pain and knees.",
    "skin": "The skin: rashes, itching, burns and acne.",
}
FINANCE = {
    "shares": "Shares, stock markets, dividends and investors.",
    "credit": "Loans, mortgages, interest rates and debts to a bank.",
    "taxes": "Taxes, tax returns, deductions and the revenue office.",
}

api = FastAPI()


@serve.deployment
class DomainModel:
    """Says which subject of its domain a text is about: the one whose description is nearest in meaning."""

    def __init__(self, subjects: dict[str, str]) -> None:
        self.model = load()
        self.subjects = list(subjects)
        self.rows = self.model.encode(list(subjects.values()))

    def __call__(self, text: str) -> str:
        return self.subjects[int((self.rows @ self.model.encode([text])[0]).argmax())]


@serve.deployment
@serve.ingress(api)
class ModelRouter:
    def __init__(self, model_a: Any, model_b: Any, model_c: Any) -> None:
        self.models = {"legal": model_a, "medical": model_b, "finance": model_c}

    @api.post("/predict")
    async def predict(self, req: dict[str, Any]) -> dict[str, str]:
        model = self.models.get(req.get("domain", "legal"))
        if model is None:
            return {"error": "unknown domain"}
        if not isinstance(req.get("text"), str):
            raise HTTPException(422, "'text' must be there, and a string")
        return {"result": await model.remote(req["text"])}


app = ModelRouter.bind(
    DomainModel.options(name="Legal").bind(LEGAL),
    DomainModel.options(name="Medical").bind(MEDICAL),
    DomainModel.options(name="Finance").bind(FINANCE),
)
