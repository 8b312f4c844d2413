"""The compatibility scripts about calls and requests, on local testing mode: the same expectations as on processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPTS = {
    "deployments": "1_4_composition 1_7_contexts 1_8_batch 1_9_multiplex 1_16_hooks",
    "handles": "2_1_handles 2_1_replicas 2_2_responses 2_3_generators 2_4_errors 2_5_cancellation 2_6_concurrency",
    "http": "1_18_ingress 3_1_request 3_2_conversion 3_3_errors 3_4_routing 3_6_headers 3_7_streaming",
}


@pytest.mark.parametrize("part", SCRIPTS)
def test_the_scripts_pass_in_one_process(part: str) -> None:
    scripts = [f"tests/compat/test_{name}.py" for name in SCRIPTS[part].split()]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *scripts],
        cwd=ROOT,
        env={**os.environ, "SERVE_IMPL": "local"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
