"""FastAPI as uvicorn serves it, without any serving framework: `GET /` and `POST /score`."""

from __future__ import annotations

from batcher import Batcher
from fastapi import FastAPI
from flower import Flower, Score, score

app = FastAPI()
batcher = Batcher()


@app.get("/")
async def noop() -> str:
    return "ok"


@app.get("/batch")
async def batch() -> str:
    return await batcher.ask()


@app.post("/score")
async def predict(flower: Flower) -> Score:
    return score(flower)
