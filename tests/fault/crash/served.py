"""The applications of the crash scenario: each answers with its version and what it was configured with last."""

from __future__ import annotations

from typing import Any

from eagleray import serve


@serve.deployment
class Model:
    def __init__(self, version: str) -> None:
        self.version = version
        self.n = 0

    def reconfigure(self, config: dict[str, Any]) -> None:
        self.n = config["n"]

    async def __call__(self, request: Any) -> str:
        return f"{self.version} {self.n}"


def build(args: dict[str, Any]) -> serve.Application:
    return Model.bind(args["version"])
