"""What the programs of this document ask about the machine: its memory, and what this process has on its GPUs."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

MIB = 1024 * 1024
_LIMIT = Path("/sys/fs/cgroup/memory.max")


def memory_for(replicas: int, wanted: int) -> int:
    """Bytes for each of so many replicas: `wanted`, or their share of three quarters of a machine that has less.

    Memory that is asked for is set aside, so the last of four replicas with 8 GB each would wait for ever on 16 GB.
    """
    total: int = psutil.virtual_memory().total
    limit = _LIMIT.read_text().strip() if _LIMIT.exists() else "max"
    if limit.isdigit():
        total = min(total, int(limit))
    return min(wanted, total * 3 // 4 // replicas)


def gpu_memory() -> tuple[int, int]:
    """Bytes that this process has on GPUs, now and at most; 0 as long as none of its code runs torch on one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return 0, 0
    return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
