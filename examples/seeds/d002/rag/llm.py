"""A chat server with OpenAI's API, in place of vLLM: what RAG talks to through the `openai` client.

Its model answers from the material alone: it quotes the line of the system's message whose meaning is nearest to the
user's question, by sentence embeddings. Nothing here makes things up.
"""

from __future__ import annotations

import time
from typing import Any, Literal
from uuid import uuid4

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from eagleray import serve
from models.minilm import load

MODEL = "default"

api = FastAPI()


class Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str


class ChatRequest(BaseModel):
    model: str
    messages: list[Message]


def _refused(status: int, message: str, code: str) -> JSONResponse:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return JSONResponse({"error": error}, status)


@api.exception_handler(RequestValidationError)
async def refuse(_: Any, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    return _refused(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}", "invalid_value")


@serve.deployment(max_ongoing_requests=32)
@serve.ingress(api)
class ChatServer:
    def __init__(self) -> None:
        self.model = load()

    @api.get("/models")
    async def models(self) -> dict[str, Any]:
        return {
            "object": "list",
            "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "eagleray"}],
        }

    @api.post("/chat/completions")
    async def complete(self, request: ChatRequest) -> Any:
        if request.model != MODEL:
            return _refused(
                404, f"there is no model '{request.model}'; there is '{MODEL}'", "model_not_found"
            )
        asked = [one.content for one in request.messages if one.role == "user"]
        if not asked:
            return _refused(400, "messages: one of role 'user' is needed", "invalid_value")
        material = "\n".join(one.content for one in request.messages if one.role in ("system", "developer"))
        answer = self._answer(asked[-1], material)
        prompt, said = (
            sum(self.model.count(one.content) for one in request.messages),
            self.model.count(answer),
        )
        return {
            "id": f"chatcmpl-{uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": MODEL,
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
            ],
            "usage": {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said},
        }

    def _answer(self, question: str, material: str) -> str:
        lines = [
            line.strip() for line in material.splitlines()[1:] if line.strip()
        ]  # the first line is the task
        if not lines:
            return "I was given nothing to answer from."
        rows = self.model.encode([question, *lines])
        return lines[int((rows[1:] @ rows[0]).argmax())]


app = ChatServer.bind()
