"""All seed programs of a document in one instance, each below a prefix of its own; and their declared traffic."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from tests.fault.instance import Instance, serving
from tests.ports import free_port

SEEDS = Path(__file__).parents[2] / "examples" / "seeds"
sys.path[:0] = [] if str(SEEDS) in sys.path else [str(SEEDS)]

import program as declared  # noqa: E402

CONNECTIONS = 4


def names(document: str) -> list[str]:
    """The document's programs that are an application each; config files and scripts are tested by themselves."""
    return [one.name for one in declared.programs(document) if one.is_application]


@contextmanager
def document_served(
    document: str, folder: Path, options: dict[str, list[dict[str, Any]]] | None = None, **env: str
) -> Iterator[Instance]:
    """Its programs at `/NAME`, as applications of one instance. `folder` gets the config file.

    `options` are what a program's deployments have otherwise, as in a config file; `env` is the instance's.
    """
    served = [one for one in declared.programs(document) if one.is_application]
    port = free_port()
    config = {
        "http_options": {"port": port},
        "applications": [
            {
                "name": one.name,
                "route_prefix": f"/{one.name}",
                "import_path": one.target,
                "deployments": (options or {}).get(one.name, []),
            }
            for one in served
        ],
    }
    path = folder / f"{document}.yaml"
    path.write_text(yaml.safe_dump(config))
    merged = {name: value for one in served for name, value in one.env.items()}
    with serving(str(path), folder="examples/seeds", env=merged | {"PORT": str(port)} | env) as instance:
        yield instance


def send_declared(port: int, document: str, name: str, prefix: str | None = None) -> None:
    """What `run.py` sends, once, by several connections; every answer must be right."""
    (program,) = declared.programs(f"{document}/{name}")

    def send(part: int) -> list[tuple[Any, Any]]:
        with declared.Client(port, f"/{name}" if prefix is None else prefix) as client:
            return [(ask, client.send(ask)) for ask in program.asks[part::CONNECTIONS]]

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        answered = [one for part in pool.map(send, range(CONNECTIONS)) for one in part]
    wrong = [
        f"{ask!s:.200} -> {answer.status} {answer.value}"
        for ask, answer in answered
        if not ask.holds_for(answer)
    ]
    assert not wrong, "\n".join(wrong)
