"""What deploy/grafana asks Prometheus, and the series that it names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml
from tests.docs.counted import ROOT
from tests.docs.render_board import BOARD

FOLDER = ROOT / "deploy" / "grafana"
SELECTOR = re.compile(r"\b(ray_serve_\w+|eagleray_\w+)\b(?:\{([^}]*)\})?")


def expressions() -> Iterator[str]:
    """Of panels, variables, annotations and alerts."""
    board: dict[str, Any] = json.loads(BOARD.read_text())
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    yield from (one["query"] for one in board["templating"]["list"] if one["type"] == "query")
    yield from (one["expr"] for one in board["annotations"]["list"])
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def names(expression: str) -> set[str]:
    return {found[1] for found in SELECTOR.finditer(expression)}
