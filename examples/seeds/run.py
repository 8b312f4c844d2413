"""Runs the seed programs one after another, as a person would: `eagleray run`, requests over HTTP, Ctrl-C.

python run.py [d002 d002/rag ...]

Prints a line for each program, and exits with 0 only if every request of every program was answered as it should be.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median

from program import SEEDS, Client, Program, programs

CONNECTIONS = 4
STARTED_WITHIN_S = 300


@contextmanager
def serving(program: Program) -> Iterator[int]:
    """The port of the running program, in an instance of its own that leaves nothing behind."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="seeds-") as home:
        instance = {"EAGLERAY_RUNTIME_HOME": f"{home}/run", "EAGLERAY_STATE_HOME": f"{home}/state"}
        process = subprocess.Popen(
            [sys.executable, *program.command, "--port", str(port)],
            cwd=SEEDS,
            env=os.environ | instance | {"EAGLERAY_ATTACH": "0", "PORT": str(port)} | dict(program.env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        watchdog = threading.Timer(STARTED_WITHIN_S, process.kill)
        watchdog.start()
        try:
            _wait_until_served(process)
            watchdog.cancel()
            yield port
        finally:
            watchdog.cancel()
            process.send_signal(signal.SIGINT)
            process.communicate()


def _wait_until_served(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    said: deque[str] = deque(maxlen=40)
    for line in process.stdout:
        said.append(line)
        if line.split()[:1] == ["Stop"]:
            return
    raise RuntimeError("eagleray run has ended before it served:\n" + "".join(said))


def ask_all(program: Program, port: int) -> tuple[int, list[float]]:
    """Sends the program's requests, several at a time: how many were right, and the milliseconds of each."""
    asks = program.asks * program.rounds

    def send(part: int) -> list[tuple[bool, float]]:
        found = []
        with Client(port) as client:
            for ask in asks[part::CONNECTIONS]:
                sent = time.perf_counter()
                answer = client.send(ask)
                found.append((ask.holds_for(answer), (time.perf_counter() - sent) * 1000))
                if not found[-1][0]:
                    print(f"  wrong: {ask!s:.300} -> {answer.status} {answer.value!s:.300}", file=sys.stderr)
        return found

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        found = [one for part in pool.map(send, range(CONNECTIONS)) for one in part]
    return sum(right for right, _ in found), [took for _, took in found]


def main(wanted: list[str]) -> int:
    try:
        chosen = programs(*wanted)
    except LookupError as error:
        print(f"Error: {error.args[0]}", file=sys.stderr)
        return 2
    failed = 0
    print(f"{'program':<28} {'document':<9} {'requests':>8} {'ok':>6} {'p50 ms':>9}")
    for program in chosen:
        with serving(program) as port:
            right, times = ask_all(program, port)
        failed += len(times) - right
        document = program.document.removeprefix("d")
        row = f"{program.name:<28} {document:<9} {len(times):>8} {right:>6} {median(times):>9.2f}"
        print(row, flush=True)
    print(f"programs: {len(chosen)}, wrong answers: {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
