"""batch_latency: the highest rate with 99 % of answers within 50 ms, by fixed settings and by a latency target.

The model takes 8 ms + 0.4 ms for each item of a batch, and later, without anybody being told, other times. Arrivals
are random (Poisson) and do not wait for answers. Fixed settings are tried on a grid; with the learned ones nothing is
tuned, so they may be at most as good as the best of the grid is by luck.
"""

from __future__ import annotations

import http.client
import statistics

from bench import open_loop
from bench.load import Request
from bench.scenarios.base import Metric, Settings
from bench.server import Server, serving
from bench.systems.base import System, Workload

TARGET_S = 0.05
ENOUGH = 0.99
GRID = tuple((size, wait_ms) for size in (1, 8, 32, 64) for wait_ms in (0, 5, 20))
MODEL, CHANGED = (8.0, 0.4), (16.0, 0.2)
"""Milliseconds for a batch, and for each item of it."""
DOWN, UP, WINDOWS = 4, 3, 3
"""Steps below and above the best fixed setting's rate at which both are compared, and windows for each."""
STEP = 1.04
"""Ratio of neighbouring rates that are tried."""
SLOWEST, RATES = 500.0, 36
"""The lowest rate that is tried, and how many: up to 2,000 requests/s."""


class BatchLatency:
    """One server for all settings: they are changed while it runs."""

    name = "batch_latency"
    systems = ("eagleray",)
    metrics = (
        Metric("target_rps", "latency_target_s: highest rate", "req/s", True),
        Metric("fixed_rps", "best fixed setting: highest rate", "req/s", True),
        Metric("fixed_size", "best fixed setting: max_batch_size", "", True),
        Metric("fixed_wait_ms", "best fixed setting: batch_wait_timeout", "ms", True),
        Metric("ratio", "latency_target_s over best fixed setting", "", True),
        Metric("changed_target_rps", "changed model, latency_target_s: highest rate", "req/s", True),
        Metric("changed_fixed_rps", "changed model, same fixed setting: highest rate", "req/s", True),
        Metric("changed_ratio", "changed model: ratio", "", True),
    )

    def seconds(self, system: System, settings: Settings) -> float:
        probes = 2 * len(GRID) + 2 * (8 + 2 * WINDOWS * len(range(-DOWN, UP)))
        return system.start_s + probes * (settings.window_s + 1)

    def measure(self, system: System, settings: Settings) -> dict[str, float]:
        with serving(system, Workload("batch_latency")) as server:
            best, step = (0, 0), 0
            for size, wait_ms in GRID:
                _tell(server, MODEL, (size, wait_ms))
                # Most settings are not better than the best so far: one probe says so.
                if _holds(server, "/fixed", step, settings):
                    best, step = (size, wait_ms), _highest(server, "/fixed", settings, step)
            _tell(server, MODEL, best)
            target, fixed = _compared(server, step, settings)
            # The learned settings were left with the first model, and learn the other one while they are asked.
            _tell(server, CHANGED, best)
            changed_target, changed_fixed = _compared(
                server, _highest(server, "/fixed", settings, 0), settings
            )
        return {
            "target_rps": target,
            "fixed_rps": fixed,
            "fixed_size": best[0],
            "fixed_wait_ms": best[1],
            "ratio": target / fixed,
            "changed_target_rps": changed_target,
            "changed_fixed_rps": changed_fixed,
            "changed_ratio": changed_target / changed_fixed,
        }


def _rate(step: int) -> float:
    return SLOWEST * STEP**step


def _in_time(server: Server, path: str, step: int, settings: Settings, seed: int) -> float:
    """The share of answers within the target at this rate, in one window."""
    request = Request(path=path)
    open_loop.run(server.port, request, _rate(step), settings.warm_up_s, seed)
    answers = open_loop.run(server.port, request, _rate(step), settings.duration_s, seed).answers
    return sum(status == 200 and latency <= TARGET_S for status, latency in answers) / max(1, len(answers))


def _holds(server: Server, path: str, step: int, settings: Settings) -> bool:
    """Whether 99 % are in time at this rate, in one of two windows: noise of the machine only makes answers late."""
    return any(_in_time(server, path, step, settings, step + 1000 * n) >= ENOUGH for n in range(2))


def _highest(server: Server, path: str, settings: Settings, low: int) -> int:
    """The highest step of the ladder that holds, by bisection; `low` is taken to hold."""
    high = RATES
    while high - low > 1:
        middle = (low + high) // 2
        if _holds(server, path, middle, settings):
            low = middle
        else:
            high = middle
    return low


def _compared(server: Server, step: int, settings: Settings) -> tuple[float, float]:
    """The highest rates of both, tried in turn around `step`, so that what the machine does meanwhile hits both."""
    steps = range(max(0, step - DOWN), step + UP)
    shares: dict[tuple[str, int], list[float]] = {}
    for window in range(WINDOWS):
        for at in steps:
            for path in ("/target", "/fixed"):
                share = _in_time(server, path, at, settings, at + 1000 * window)
                shares.setdefault((path, at), []).append(share)
    held = {
        path: [at for at in steps if statistics.median(shares[path, at]) >= ENOUGH]
        for path in ("/target", "/fixed")
    }
    return _rate(max(held["/target"], default=0)), _rate(max(held["/fixed"], default=0))


def _tell(server: Server, model: tuple[float, float], fixed: tuple[int, int] | None = None) -> None:
    path = f"/set?fixed_ms={model[0]}&per_item_ms={model[1]}"
    if fixed is not None:
        path += f"&size={fixed[0]}&wait_ms={fixed[1]}"
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", path)
        connection.getresponse().read()
    finally:
        connection.close()
