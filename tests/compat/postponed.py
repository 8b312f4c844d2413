"""A typed builder and a FastAPI ingress whose annotations are strings until somebody asks for them."""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import BaseModel
from tests.compat.impl import serve

api = FastAPI()


class Arguments(BaseModel):
    greeting: str


class Item(BaseModel):
    name: str


@serve.deployment
@serve.ingress(api)
class Greeter:
    def __init__(self, greeting: str) -> None:
        self.greeting = greeting

    @api.post("/")
    def greet(self, item: Item) -> str:
        return f"{self.greeting} {item.name}"


def build(arguments: Arguments) -> serve.Application:
    return Greeter.bind(arguments.greeting)
