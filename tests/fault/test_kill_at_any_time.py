"""The driver is killed or stopped at a random moment of its start: whatever there is by then ends with it."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.processes import kill, wait_gone
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("ROUNDS", "4"))
SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))

GONE_WITHIN_S = 3.0
"""The 2 s that node may take, after at most one second in which it imports and cannot look."""

ORDERLY_S = 15.0


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left(signum: signal.Signals) -> None:
    draw = random.Random(f"{SEED} {signum}")
    for round_number in range(ROUNDS):
        delay_s = draw.uniform(0.0, 1.2)
        _one_round(signum, delay_s, f"SEED={SEED} round {round_number}: {signum.name} after {delay_s:.3f} s")


def _one_round(signum: signal.Signals, delay_s: float, what: str) -> None:
    home = tempfile.mkdtemp(prefix="er-")
    mark = f"EAGLERAY_RUNTIME_HOME={home}/run"
    driver = subprocess.Popen(
        [sys.executable, "-m", "eagleray.cli", "run", "tests.fault.served:app", "--port", "0"],
        env=os.environ
        | {
            "PYTHONPATH": f"{ROOT}/src:{ROOT}",
            "EAGLERAY_STATE_HOME": home,
            "EAGLERAY_RUNTIME_HOME": f"{home}/run",
        },
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        select.select([], [], [], delay_s)
        driver.send_signal(signum)
        driver.wait(ORDERLY_S)
        wait_gone(_marked(mark), GONE_WITHIN_S)
        assert not _marked(mark), what
        wait_until(lambda: not list(Path(home).glob("run/*")) or signum == signal.SIGKILL, what, 1.0)
    finally:
        kill(_marked(mark))
        driver.kill()
        driver.wait()
        shutil.rmtree(home, ignore_errors=True)


def _marked(mark: str) -> set[int]:
    """Processes that were exec'd with `mark` in their environment, and all that these have forked."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes().split(b"\0"):
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found
