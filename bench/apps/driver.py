"""A user's script that deploys and calls: `driver.py WORKLOAD DEPTH PORT ANSWERS_FD`.

Ray Serve runs under it in all scenarios, Eagleray where calls come from a driver. It reads one command a line from
standard input and writes one JSON answer a line to ANSWERS_FD:

    handle OUTSTANDING SECONDS   awaits calls of a handle; {"calls", "seconds", "p50_ms", "p99_ms"}
    arrays SECONDS               has a replica send arrays to another one; {"calls", "p50_ms", "p99_ms"}

End of input ends it, orderly.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from typing import Any

import serving


async def call(handle: Any, outstanding: int, seconds: float) -> dict[str, float]:
    """Keeps `outstanding` calls awaited, each worker calling again at once; latencies in milliseconds."""
    latencies: list[float] = []
    clock = time.perf_counter
    started = clock()
    deadline = started + seconds

    async def work() -> None:
        before = clock()
        while before < deadline:
            await handle.answer.remote()
            after = clock()
            latencies.append(after - before)
            before = after

    await asyncio.gather(*(work() for _ in range(outstanding)))
    elapsed = clock() - started
    return {"seconds": elapsed, **quantiles(latencies)}


async def send_arrays(handle: Any, seconds: float) -> dict[str, float]:
    return quantiles(await handle.send.remote(seconds))


def quantiles(latencies: list[float]) -> dict[str, float]:
    latencies.sort()
    return {
        "calls": len(latencies),
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1000,
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    workload, depth, port, answers_fd = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if os.environ.get("SERVE_IMPL") == "ray":
        import ray

        ray.init(address="local", _temp_dir=os.environ["BENCH_TEMP_DIR"])
    options: dict[str, Any] = {"http_options": {"host": "127.0.0.1", "port": int(port)}}
    if workload == "rpc":
        options["http_options"]["port"] = free_port()
        servicer = "answer_pb2_grpc:add_AnswererServicer_to_server"
        options["grpc_options"] = {"port": int(port), "grpc_servicer_functions": [servicer]}
    serving.serve.start(**options)
    handle = serving.serve.run(getattr(serving, workload)({"depth": depth}), name="bench", route_prefix="/")
    # One loop for all commands: with the router in the driver's own thread (Ray tuned) a handle belongs to the first.
    with os.fdopen(int(answers_fd), "w", buffering=1) as answers, asyncio.Runner() as runner:
        for line in sys.stdin:
            match line.split():
                case ["handle", outstanding, seconds]:
                    answer = runner.run(call(handle, int(outstanding), float(seconds)))
                case ["arrays", seconds]:
                    answer = runner.run(send_arrays(handle, float(seconds)))
                case _:
                    sys.exit(f"unknown command {line!r}")
            answers.write(json.dumps(answer) + "\n")
    serving.serve.shutdown()


if __name__ == "__main__":
    main()
