"""FastAPI in front of the translator.

cd examples/seeds && EAGLERAY_NUM_GPUS=2 eagleray run d002.frontend.app:app
curl -H 'content-type: application/json' -d '{"text": "the black cat sees a small house"}' localhost:8000/translate
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, HTTPException

from d002.translator.app import Translator
from eagleray import serve

api = FastAPI()


@serve.deployment
@serve.ingress(api)
class Frontend:
    """Checks what comes by HTTP and hands the text to the translator, which scales by itself."""

    def __init__(self, translator_handle: Any) -> None:
        self.translator = translator_handle

    @api.post("/translate")
    async def translate(self, req: dict[str, Any]) -> dict[str, str]:
        text = req.get("text")
        if not isinstance(text, str):
            raise HTTPException(422, "'text' must be there, and a string")
        return {"translation": await self.translator.remote(text)}


app = Frontend.bind(Translator.bind())
