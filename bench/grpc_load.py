"""gRPC load by h2load (Debian's nghttp2-client), which is written in C and so leaves the cores to the servers.

It knows HTTP/2 but not gRPC: an RPC that failed is a 200 without a body to it. So the bytes that came back are counted.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import tempfile
from pathlib import Path

from bench.load import Load, LoadError, Request, ensure_tool

REPLY_BYTES = 5 + 4
"""One reply of the `rpc` workload: gRPC's prefix and a message with the text "ok"."""

_REQUESTS = re.compile(r"requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded")
_DATA = re.compile(r"\((\d+)\) data")


def framed(message: bytes) -> bytes:
    """A gRPC message as it stands in a body (PROTOCOL-HTTP2.md, Length-Prefixed-Message)."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def parse(output: str, times: str, seconds: float) -> Load:
    """Reads h2load's words and its log of times. Raises LoadError when it gave no result."""
    requests, data = _REQUESTS.search(output), _DATA.search(output)
    if requests is None or data is None:
        raise LoadError(f"h2load gave no result: {output.strip()[-500:]}")
    total = int(requests[1])
    taken = sorted(int(line.split("\t")[2]) for line in times.splitlines())
    errors = total - min(int(requests[2]), int(data[1]) // REPLY_BYTES)
    return Load(
        requests=total,
        seconds=seconds,
        p50_ms=statistics.median(taken) / 1000 if taken else 0.0,
        p99_ms=taken[len(taken) * 99 // 100] / 1000 if taken else 0.0,
        errors=errors,
    )


def _run(port: int, request: Request, *arguments: str, seconds: float) -> Load:
    with tempfile.TemporaryDirectory(prefix="er-h2load-") as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(request.body)
        command = [
            *(
                ensure_tool("h2load", "nghttp2-client"),
                *arguments,
                "--data",
                str(body),
                "--log-file",
                str(log),
            ),
            *("--header", f"content-type: {request.content_type}", "--header", "te: trailers"),
            f"http://127.0.0.1:{port}{request.path}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
        return parse(done.stdout + done.stderr, log.read_text() if log.exists() else "", seconds)


def answers(port: int, request: Request) -> bool:
    """Whether one RPC is answered well."""
    try:
        load = _run(port, request, "--requests", "1", seconds=1.0)
    except (LoadError, subprocess.TimeoutExpired):
        return False
    return load.requests == 1 and not load.errors


def measure(
    port: int, request: Request, connections: int, streams: int, warm_up_s: float, seconds: float
) -> Load:
    """A warm-up window, thrown away, then the window that counts. Raises LoadError on any error."""
    shape = ("--clients", str(connections), "--max-concurrent-streams", str(streams))
    if warm_up_s:
        _run(port, request, *shape, "--duration", f"{warm_up_s:g}", seconds=warm_up_s)
    load = _run(port, request, *shape, "--duration", f"{seconds:g}", seconds=seconds)
    if load.errors or not load.requests:
        raise LoadError(f"{load.errors} errors in {load.requests} RPCs with {connections} x {streams}")
    return load
