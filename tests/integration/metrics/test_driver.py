"""A driver's calls are in the metrics of its instance; EAGLERAY_METRICS=0 counts nothing."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.ports import free_port
from tests.waiting import wait_until

from eagleray import serve
from eagleray.admin.metrics_port import URL_FILE

NAME = "ray_serve_handle_request_counter_total"


@serve.deployment
class D:
    def __call__(self, request: object) -> str:
        return "d"


def counted(home: Path) -> float | None:
    """Calls by handles; None: no metrics are served."""
    found = list(home.glob(f"run/*/{URL_FILE}"))
    if not found:
        return None
    with urllib.request.urlopen(found[0].read_text().strip(), timeout=30) as reply:
        text = reply.read().decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == NAME and sample.labels["deployment"] == "D"
    )


@pytest.mark.parametrize("is_on", [True, False])
def test_calls_of_drivers(home: Path, monkeypatch: pytest.MonkeyPatch, is_on: bool) -> None:
    monkeypatch.setenv("EAGLERAY_RUNTIME_HOME", f"{home}/run")
    monkeypatch.setenv("EAGLERAY_STATE_HOME", f"{home}/state")
    monkeypatch.setenv("EAGLERAY_METRICS_EXPORT_PORT", "0")
    monkeypatch.setenv("EAGLERAY_METRICS", "1" if is_on else "0")
    serve.start(http_options={"port": free_port()})
    try:
        handle = serve.run(D.bind())
        for _ in range(3):
            assert handle.remote(None).result(timeout_s=60) == "d"
        if is_on:
            wait_until(lambda: counted(home) == 3)
        else:
            assert counted(home) is None
    finally:
        serve.shutdown()
