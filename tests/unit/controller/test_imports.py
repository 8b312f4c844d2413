"""What the controller must never have in its process: user-code machinery and what only others need."""

from __future__ import annotations

import subprocess
import sys

FORBIDDEN = (
    "fastapi",
    "starlette",
    "cloudpickle",
    "rich",
    "grpc",
    "ray",
    "eagleray.serve",
    "eagleray.wire.codec",
)


def test_controller_imports_nothing_that_runs_or_unpickles_user_code() -> None:
    code = "import sys, eagleray.controller.__main__; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not set(FORBIDDEN) & set(loaded)
