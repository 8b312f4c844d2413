"""docs/tracing.md: its program makes the trace that is drawn, its fields, variables and spans are ours."""

from __future__ import annotations

import json
import re
import urllib.request
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from tests.docs.program import serving
from tests.waiting import wait_until

from eagleray.base.settings import Settings
from eagleray.base.span_outbox import MOST_WAITING
from eagleray.spec.options import TracingConfig

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tracing.md").read_text()


def test_the_program_makes_the_trace_that_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (header,) = re.findall(r"-H 'traceparent: (.*?)'", PAGE)
    monkeypatch.setenv("EAGLERAY_TRACING_EXPORTER", "file")
    monkeypatch.setenv("EAGLERAY_STATE_HOME", str(tmp_path / "state"))
    with serving(tmp_path, program) as port:
        headers = {"traceparent": header, "x-eagleray-timing": "1"}
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{port}/", headers=headers), timeout=30
        ) as reply:
            timing = reply.headers["server-timing"]
        (shown,) = re.findall(r"^server-timing: (.*)$", PAGE, re.MULTILINE)
        assert re.sub(r"[\d.]+", "", timing) == re.sub(r"[\d.]+", "", shown)

        def spans() -> list[dict[str, Any]]:
            paths = tmp_path.glob("state/**/spans/*_tracing.json")
            return [json.loads(line) for path in paths for line in path.read_text().splitlines()]

        wait_until(lambda: len(spans()) >= 6, "six spans")
        found = {one["context"]["span_id"]: one for one in spans()}
    (leaf,) = [
        one
        for one in found.values()
        if one["attributes"].get("method") == "__call__" and one["kind"] == "SpanKind.SERVER"
    ]
    chain = []
    one: dict[str, Any] | None = leaf
    while one is not None:
        chain.append(one["name"])
        one = found.get(one["parent_id"])
    (tree,) = re.findall(r"```\n(proxy_http_request.*?)```", PAGE, re.DOTALL)
    drawn = [line.strip(" └").split()[0] for line in tree.splitlines()]
    assert chain[::-1] == drawn
    assert {name for name in drawn if name != "think"} <= set(
        re.findall(r"`(\w+)`", PAGE.partition("## Spans")[2])
    )


def test_fields_and_variables_are_ours() -> None:
    for name, field in TracingConfig.model_fields.items():
        assert re.search(
            rf"^\| `{name}` \|.*`{json.dumps(field.default).capitalize()}`", PAGE, re.MULTILINE
        ), name
    known = {f"EAGLERAY_{field.name.upper()}" for field in fields(Settings)}
    named = set(re.findall(r"EAGLERAY_[A-Z_]+", PAGE))
    assert named <= known
    assert {one for one in known if "TRACING" in one or "TIMING" in one} <= named
    assert f"{MOST_WAITING:,} ended spans" in PAGE
