"""A stream of gigabytes to a client that reads by fits and starts: no process keeps what the client has not read."""

from __future__ import annotations

import os
import socket
import threading

import psutil
import pytest
from tests.fault.instance import Instance, serving

MEGABYTES = int(os.environ.get("SOAK_STREAM_MEGABYTES", "600"))
MOST_GROWTH = 64 << 20
PAUSE_S = 0.02
ROLES = ("node", "controller", "proxy", "replica")


@pytest.mark.parametrize("kind", ["loop", "thread"])
def test_memory_stays_flat(kind: str) -> None:
    with serving("tests.fault.streaming:app") as instance:
        read(instance, kind, 20)
        processes = [psutil.Process(pid) for role in ROLES for pid in instance.pids(role)]
        before = {process.pid: process.memory_info().rss for process in processes}
        peak = dict(before)

        def look() -> None:
            for process in processes:
                peak[process.pid] = max(peak[process.pid], process.memory_info().rss)

        assert read(instance, kind, MEGABYTES, look) == MEGABYTES * 1_000_000
        growth = {psutil.Process(pid).name(): peak[pid] - before[pid] for pid in before}
        assert max(growth.values()) <= MOST_GROWTH, growth


def read(instance: Instance, kind: str, megabytes: int, look: object = None) -> int:
    """Bytes of body that came. Stops reading for a moment after each 16 MB, and then looks."""
    paused = threading.Event()
    size, since, headed = 0, 0, False
    buffer = bytearray(1 << 20)
    with socket.create_connection((instance.host, instance.port), timeout=60) as sock:
        sock.sendall(f"GET /{kind}?count={megabytes} HTTP/1.0\r\nHost: a\r\n\r\n".encode())
        while count := sock.recv_into(buffer):
            size += count
            since += count
            if since >= 16_000_000:
                since = 0
                paused.wait(PAUSE_S)
                if callable(look):
                    look()
            if not headed:
                headed = True
                size -= bytes(buffer[:count]).index(b"\r\n\r\n") + 4
    return size
