"""FastAPI as uvicorn serves it, without any serving framework: `GET /` and `POST /score`."""

from __future__ import annotations

from fastapi import FastAPI
from flower import Flower, Score, score

app = FastAPI()


@app.get("/")
async def noop() -> str:
    return "ok"


@app.post("/score")
async def predict(flower: Flower) -> Score:
    return score(flower)
