"""What a person or a program reads: YAML with readable blocks, JSON, or a table on a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_WIDTH = 80
_COLOURS = {
    "RUNNING": "green",
    "HEALTHY": "green",
    "DEPLOY_FAILED": "red",
    "UNHEALTHY": "red",
    "DELETING": "dim",
}


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as a block, so that tracebacks can be read."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    if "\n" not in text:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text)
    # A block may hold neither tabs nor spaces at the end of a line.
    plain = "\n".join(line.rstrip() for line in text.expandtabs(4).splitlines())
    return dumper.represent_scalar("tag:yaml.org,2002:str", plain, style="|")


_Dumper.add_representer(str, _represent_text)


def plain(text: str) -> str:
    """The text without colours, and with a space in place of what would move the cursor."""
    return "".join(one if one.isprintable() else " " for one in _ANSI.sub("", text))


def to_yaml(value: Any) -> str:
    """Keys in their own order, two spaces deep, without the colours that tracebacks may have."""
    return yaml.dump(
        _without_colours(value), Dumper=_Dumper, sort_keys=False, width=_WIDTH, default_flow_style=False
    )


def to_json(value: Any) -> str:
    """Indented, for people and programs."""
    return json.dumps(value, indent=2)


def _without_colours(value: Any) -> Any:
    if isinstance(value, str):
        return _ANSI.sub("", value)
    if isinstance(value, dict):
        return {key: _without_colours(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_colours(item) for item in value]
    return value


def status_table(status: Mapping[str, Any]) -> Any:
    """A rich table of the instance: a line for each application and each of its deployments."""
    from rich.table import Table  # it takes longer to import than all else here, and only terminals need it
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("Application", "Deployment", "Status", "Replicas", "Message"):
        table.add_column(title, overflow="fold")

    def add(app: str, deployment: str, one: Mapping[str, Any], replicas: str) -> None:
        message = _ANSI.sub("", one["message"]).strip().rpartition("\n")[2]
        state = Text(one["status"], style=_COLOURS.get(one["status"], "yellow"))
        table.add_row(Text(app), Text(deployment), state, Text(replicas), Text(message))

    for name, application in status["applications"].items():
        add(name, "", application, "")
        for deployment, one in application["deployments"].items():
            counts = ", ".join(f"{count} {state}" for state, count in one["replica_states"].items())
            add("", deployment, one, counts)
    return table
