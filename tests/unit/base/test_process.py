"""A child's loop, in a process of its own: how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

PRELUDE = """
import asyncio, os, signal, sys, threading
from eagleray.base.process import Child, run_child

child = Child("a", b"", None, None, int(sys.argv[1]), -1, "/nowhere", "")
"""


@contextmanager
def child(body: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process, and the end of its life pipe that node would hold."""
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(body), str(read)],
        pass_fds=[read],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    os.close(read)
    assert process.stdout is not None
    with process.stdout:
        try:
            yield process, write
        finally:
            process.kill()
            process.wait()
            os.close(write)


WAITS = """
async def main():
    try:
        print("up", flush=True)
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        print("in order", flush=True)

run_child(child, main)
print("returned", flush=True)
os._exit(0)
"""


def test_sigterm_cancels_main_and_run_child_returns() -> None:
    with child(WAITS) as (process, _):
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "in order\nreturned\n"
        assert process.wait(10) == 0


def test_sigint_is_ignored() -> None:
    with child(WAITS) as (process, _):
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "in order\nreturned\n"


def test_death_of_node_ends_it_at_once() -> None:
    with child(WAITS) as (process, life):
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        os.dup2(os.open(os.devnull, os.O_RDONLY), life)
        assert process.wait(10) == 1
        assert process.stdout.read() == ""


def test_tasks_left_behind_are_cancelled_and_threads_are_not_waited_for() -> None:
    body = """
    async def orphan():
        try:
            await asyncio.Event().wait()
        finally:
            print("cancelled", flush=True)

    async def main():
        asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
        task = asyncio.create_task(orphan())
        await asyncio.sleep(0)

    run_child(child, main)
    print("returned", flush=True)
    os._exit(0)
    """
    with child(body) as (process, _):
        assert process.stdout is not None
        assert process.stdout.read() == "cancelled\nreturned\n"
        assert process.wait(10) == 0


def test_exception_of_main_is_raised() -> None:
    body = """
    async def main():
        raise ValueError("no weights")

    run_child(child, main)
    """
    with child(body) as (process, _):
        assert process.stdout is not None
        assert process.stdout.read().endswith("ValueError: no weights\n")
        assert process.wait(10) == 1
