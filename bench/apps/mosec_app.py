"""The workloads as mosec pipelines: `mosec_app.py WORKLOAD DEPTH --port N` (mosec parses its own options)."""

from __future__ import annotations

import sys
import time
from typing import Any

from batcher import MODEL_S, SIZE, WAIT_S
from mosec import Server, Worker


class Bytes(Worker):
    """Bytes in, bytes out: no JSON where the workload has none."""

    def deserialize(self, data: bytes) -> Any:
        return data

    def serialize(self, data: Any) -> bytes:
        return data


class Noop(Bytes):
    def forward(self, data: Any) -> Any:
        return b"ok"


class Echo(Bytes):
    def forward(self, data: Any) -> Any:
        return data


class Batched(Bytes):
    """mosec calls it with a list, because it batches."""

    def forward(self, data: list[Any]) -> list[Any]:
        time.sleep(MODEL_S)
        return [b"ok" for _ in data]


class Score(Worker):
    """mosec's default JSON on both sides."""

    def forward(self, data: dict[str, float]) -> dict[str, float]:
        total = data["sepal_length"] + data["sepal_width"] + data["petal_length"] + data["petal_width"]
        return {"score": total}


def main() -> None:
    workload, depth = sys.argv.pop(1), int(sys.argv.pop(1))
    server = Server()
    if workload == "noop":
        server.append_worker(Noop)
    elif workload == "json":
        server.append_worker(Score)
    elif workload == "echo":
        server.append_worker(Echo)
    elif workload == "batch":
        server.append_worker(Batched, max_batch_size=SIZE, max_wait_time=int(WAIT_S * 1000))
    elif workload == "chain":
        for _ in range(depth):
            server.append_worker(Echo)
    else:
        sys.exit(f"unknown workload {workload!r}: expected noop, json, chain, echo or batch")
    server.run()


if __name__ == "__main__":
    main()
