"""deploy/grafana: the board is up to date, and every expression speaks of series and labels that there are."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.debian import promtool
from tests.docs.board_expressions import FOLDER, SELECTOR, expressions, names
from tests.docs.counted import counted, exported
from tests.docs.render_board import BOARD, render

OF_PROMETHEUS = {"up": frozenset({"job", "instance"})}


def test_the_board_is_up_to_date() -> None:
    assert BOARD.read_text() == render(), "run: python -m tests.docs.render_board"


def test_series_and_labels_exist(tmp_path: Path) -> None:
    known = exported(counted(tmp_path).items()) | OF_PROMETHEUS
    wrong = []
    number = 0
    for expression in expressions():
        for found in SELECTOR.finditer(expression):
            number += 1
            labels = set(re.findall(r"(\w+)\s*=", found[2] or ""))
            if found[1] not in known or not labels <= known[found[1]]:
                wrong.append((found[0], expression))
        together = [known[name] for name in names(expression) if name in known]
        grouped = re.findall(r"\bby \(([^)]*)\)", expression)
        for label in {one.strip() for group in grouped for one in group.split(",")}:
            if not all(label in labels for labels in together):
                wrong.append((label, expression))
    assert number > 60 and not wrong


@pytest.mark.parametrize("name", ["alerts.yml", "prometheus.yml"])
def test_promtool_accepts_the_files(name: str) -> None:
    command = ["check", "config", "--syntax-only"] if name == "prometheus.yml" else ["check", "rules"]
    done = subprocess.run(
        [promtool(), *command, name], cwd=FOLDER, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_understands_every_expression(tmp_path: Path) -> None:
    """As recording rules, with what Grafana puts in."""
    rules = [
        {"record": f"board:{number}", "expr": one.replace("$__rate_interval", "1m")}
        for number, one in enumerate(expressions())
        if not one.startswith("label_values(")
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    done = subprocess.run(
        [promtool(), "check", "rules", str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
