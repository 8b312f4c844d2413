"""What the results were measured on: machine, git revision, and whether something else was running."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

BUSY_SHARE = 0.15
"""Above this share of all cores used by others before the start, results deserve distrust."""


def describe(root: Path) -> dict[str, Any]:
    """Facts for the results file."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "busy_share_before": round(busy_share(), 3),
        "git": revision(root),
    }


def revision(root: Path) -> str:
    """Short git revision, with "+changes" when the source differs from it; "unknown" outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    try:
        changed = git(
            "status", "--porcelain", "--untracked-files=no", "--", "src", "bench/apps", "bench/systems"
        )
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def busy_share(window_s: float = 1.0) -> float:
    """Share of all cores' time that was not idle over `window_s`."""

    def read() -> tuple[int, int]:
        fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    total, idle = read()
    time.sleep(window_s)
    later_total, later_idle = read()
    return 1 - (later_idle - idle) / max(1, later_total - total)
