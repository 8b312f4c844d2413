"""Applications and application builders that the command line of the system under test imports."""

# No `from __future__ import annotations`: FastAPI and builders read real annotations, as in users' scripts.
from pydantic import BaseModel
from tests.compat.impl import serve


@serve.deployment
class Echo:
    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self) -> str:
        return self.text


class Arguments(BaseModel):
    """What `typed` takes."""

    text: str
    times: int = 1


def typed(arguments: Arguments) -> serve.Application:
    return Echo.bind(arguments.text * arguments.times)


def untyped(arguments: dict[str, str]) -> serve.Application:
    return Echo.bind(",".join(f"{key}={value!r}" for key, value in sorted(arguments.items())))


app = Echo.bind("built")
