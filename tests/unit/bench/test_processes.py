"""The process tree is seen whole, measured, and ended whole."""

from __future__ import annotations

import subprocess
import sys

from bench import processes

PARENT = """
import subprocess, sys
child = subprocess.Popen(["sleep", "60"])
print(child.pid, flush=True)
child.wait()
"""


def test_tree_below_a_process_is_found_measured_and_ended() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {PARENT!r}])"],
        stdout=subprocess.PIPE,
        text=True,
    ) as top:
        assert top.stdout is not None
        grandchild = int(top.stdout.readline())
        tree = processes.descendants(top.pid)
        assert grandchild in tree
        assert len(tree) == 2
        assert processes.pss_bytes(tree) > 100_000
        assert processes.cpu_s(tree) > 0
        left = processes.end_all(top.pid, grace_s=0.0)
        assert any("sleep 60" in name for name in left)
        assert processes.descendants(top.pid) == []


def test_measuring_processes_that_are_gone_counts_nothing() -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    assert processes.pss_bytes([ended.pid]) == 0
    assert processes.cpu_s([ended.pid]) == 0
    assert processes.descendants(ended.pid) == []
