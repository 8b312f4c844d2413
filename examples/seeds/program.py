"""A seed program as `run.py` and the tests see it: what to start, and what to ask it.

Every program declares itself in a `traffic.py` beside its `app.py`; README.md says how.
"""

from __future__ import annotations

import http.client
import importlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SEEDS = Path(__file__).parent
TIMEOUT_S = 60


@dataclass(frozen=True)
class Answer:
    """What came back. `value` is the decoded JSON, or the text of a body that is none."""

    status: int
    value: Any
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Ask:
    """One request and what is right about its answer.

    `path` is below the application's route prefix. A request with `json` or `text` is a POST, another one a GET, unless
    `method` says so. The answer is right if its status is `status` and `right`, where given, holds for its value.
    """

    path: str = ""
    json: Any = None
    text: str | None = None
    method: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    right: Callable[[Any], bool] | None = None

    def holds_for(self, answer: Answer) -> bool:
        return answer.status == self.status and (self.right is None or bool(self.right(answer.value)))


@dataclass(frozen=True)
class Program:
    """`target` is what `eagleray run` takes, or the module of a script.

    `env` is added to its environment; `rounds` repeats the requests.
    """

    document: str
    name: str
    target: str
    asks: list[Ask]
    env: Mapping[str, str]
    rounds: int

    @property
    def is_application(self) -> bool:
        return ":" in self.target

    @property
    def command(self) -> list[str]:
        """What follows `python` to serve it until Ctrl-C; `--port` is to be added."""
        if self.is_application or self.target.endswith(".yaml"):
            return ["-m", "eagleray.cli", "run", self.target]
        return ["-m", self.target, "--stay"]


def programs(*wanted: str) -> list[Program]:
    """All programs, or those of the documents (`d002`) and names (`d002/rag`) that are wanted, in order.

    A document or name that is not there is a LookupError.
    """
    sys.path[:0] = [] if str(SEEDS) in sys.path else [str(SEEDS)]
    folders = sorted(file.parent for file in SEEDS.glob("d*/*/traffic.py"))
    names = {
        name for folder in folders for name in (folder.parent.name, f"{folder.parent.name}/{folder.name}")
    }
    if unknown := set(wanted) - names:
        raise LookupError(f"no seed program is named {sorted(unknown)}; there are {sorted(names)}")
    return [
        _read(folder)
        for folder in folders
        if not wanted or {folder.parent.name, f"{folder.parent.name}/{folder.name}"} & set(wanted)
    ]


def _read(folder: Path) -> Program:
    document, name = folder.parent.name, folder.name
    traffic = importlib.import_module(f"{document}.{name}.traffic")
    return Program(
        document=document,
        name=name,
        target=getattr(traffic, "TARGET", f"{document}.{name}.app:app"),
        asks=traffic.ASKS,
        env=getattr(traffic, "ENV", {}),
        rounds=getattr(traffic, "ROUNDS", 5),
    )


class Client:
    """One connection to an application, served below `prefix` of a port of this machine. For one thread."""

    def __init__(self, port: int, prefix: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        self._prefix = prefix.rstrip("/")

    def send(self, ask: Ask) -> Answer:
        body = ask.text if ask.json is None else json.dumps(ask.json)
        kind = {} if ask.json is None else {"content-type": "application/json"}
        method = ask.method or ("GET" if body is None else "POST")
        path = (self._prefix + ask.path) or "/"
        self._connection.request(
            method, path, None if body is None else body.encode(), kind | dict(ask.headers)
        )
        reply = self._connection.getresponse()
        text = reply.read().decode()
        headers = {name.lower(): value for name, value in reply.getheaders()}
        try:
            return Answer(reply.status, json.loads(text), headers)
        except ValueError:
            return Answer(reply.status, text, headers)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
