"""The pydantic models of the json scenario; every system that runs FastAPI uses these."""

from __future__ import annotations

from pydantic import BaseModel


class Flower(BaseModel):
    sepal_length: float
    sepal_width: float
    petal_length: float
    petal_width: float


class Score(BaseModel):
    score: float


def score(flower: Flower) -> Score:
    return Score(score=flower.sepal_length + flower.sepal_width + flower.petal_length + flower.petal_width)
