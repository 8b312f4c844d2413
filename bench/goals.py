"""The speed and memory that the project has promised: what must hold first, and where it is going."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.results import Result

OURS = "eagleray"


@dataclass(frozen=True)
class Check:
    """Our median of a metric against a bound: of itself (`peer` empty), or as a ratio to a peer's median."""

    scenario: str
    metric: str
    peer: str
    at_least: bool
    bound: float

    def value(self, results: Mapping[str, Result]) -> float | None:
        """The measured number or ratio; None when it was not measured."""
        result = results.get(self.scenario)
        if result is None:
            return None
        return result.ratio(self.metric, OURS, self.peer) if self.peer else result.median(OURS, self.metric)

    def holds(self, results: Mapping[str, Result]) -> bool | None:
        value = self.value(results)
        if value is None:
            return None
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True)
class Goal:
    """One promise: a line of the table."""

    title: str
    first: tuple[Check, ...]
    goal: tuple[Check, ...]


def _at_least(scenario: str, metric: str, bound: float, peer: str = "") -> Check:
    return Check(scenario, metric, peer, True, bound)


def _at_most(scenario: str, metric: str, bound: float, peer: str = "") -> Check:
    return Check(scenario, metric, peer, False, bound)


GOALS = (
    Goal(
        "noop, 32 connections, requests/s",
        (
            _at_least("noop", "c32_rps", 0.6, "uvicorn"),
            _at_least("noop", "c32_rps", 2, "mosec"),
            _at_least("noop", "c32_rps", 3, "ray-tuned"),
            _at_least("noop", "c32_rps", 40, "ray"),
        ),
        (_at_least("noop", "c32_rps", 1.0, "uvicorn"),),
    ),
    Goal(
        "noop, 1 connection, p50",
        (_at_most("noop", "c1_p50_ms", 2.2, "uvicorn"),),
        (_at_most("noop", "c1_p50_ms", 1.6, "uvicorn"),),
    ),
    Goal(
        "json through FastAPI, 32 connections",
        (_at_least("json", "c32_rps", 0.85, "fastapi"), _at_least("json", "c32_rps", 2, "ray-tuned")),
        (_at_least("json", "c32_rps", 1.1, "fastapi"),),
    ),
    Goal(
        "chain, added p50 per hop",
        (_at_most("chain", "hop_ms", 0.25), _at_most("chain", "hop_ms", 0.15, "ray-tuned")),
        (_at_most("chain", "hop_ms", 0.12),),
    ),
    Goal(
        "chain of 2, 32 connections",
        (_at_least("chain", "n2_c32_rps", 1.2, "mosec"), _at_least("chain", "n2_c32_rps", 7, "ray-tuned")),
        (_at_least("chain", "n2_c32_rps", 2, "mosec"),),
    ),
    Goal(
        "handle, awaited, 1 outstanding, p50",
        (_at_most("handle", "o1_p50_ms", 0.15, "ray-tuned"),),
        (_at_most("handle", "o1_p50_ms", 0.1, "ray-tuned"),),
    ),
    Goal(
        "handle, awaited, 100 outstanding",
        (_at_least("handle", "o100_cps", 10, "ray-tuned"),),
        (_at_least("handle", "o100_cps", 20, "ray-tuned"),),
    ),
    Goal(
        "10 MB numpy between deployments, p50",
        (_at_most("arrays", "mb10_p50_ms", 2.5), _at_most("arrays", "mb10_p50_ms", 0.3, "ray")),
        (_at_most("arrays", "mb10_p50_ms", 0.8),),
    ),
    Goal(
        "gRPC unary, 32 outstanding",
        (_at_least("grpc", "o32_rps", 0.8, "grpc-aio"), _at_least("grpc", "o32_rps", 2, "ray")),
        (),
    ),
    Goal(
        "cold start of `eagleray run` to first 200",
        (_at_most("cold", "first_200_s", 1.2), _at_most("cold", "first_200_s", 0.15, "ray")),
        (_at_most("cold", "first_200_s", 0.7),),
    ),
    Goal(
        "metrics and access logs on, over off: 32 connections",
        (_at_least("observability", "c32_rps", 0.95, "eagleray-unwatched"),),
        (),
    ),
    Goal("processes", (_at_most("cold", "processes", 5),), (_at_most("cold", "processes", 4),)),
    Goal("memory (PSS), MB", (_at_most("cold", "pss_mb", 130),), (_at_most("cold", "pss_mb", 90),)),
    Goal(
        "idle CPU, % of a core",
        (_at_most("cold", "idle_cpu_percent", 0.5),),
        (_at_most("cold", "idle_cpu_percent", 0.2),),
    ),
    Goal(
        "echo 10 MB, MB/s",
        (_at_least("payload", "echo_10mb", 0.7, "uvicorn"),),
        (_at_least("payload", "echo_10mb", 1.0, "uvicorn"),),
    ),
    Goal(
        "batch, 64 connections, requests/s",
        (
            _at_least("batch", "c64_rps", 5200),
            _at_least("batch", "c64_rps", 1.0, "mosec"),
            _at_least("batch", "c64_rps", 2, "ray-tuned"),
        ),
        (_at_least("batch", "c64_rps", 6000),),
    ),
    Goal(
        "batch with a latency target of 50 ms: highest rate with 99 % in it, over that of the best fixed setting",
        (_at_least("batch_latency", "ratio", 1.0), _at_least("batch_latency", "changed_ratio", 1.0)),
        (_at_least("batch_latency", "ratio", 1.25), _at_least("batch_latency", "changed_ratio", 1.25)),
    ),
    Goal(
        "stream, chunks/s with 1 and 10 clients",
        tuple(
            check
            for metric in ("c1_cps", "c10_cps")
            for check in (
                _at_least("stream", metric, 0.8, "uvicorn"),
                _at_least("stream", metric, 1.0, "ray-tuned"),
            )
        ),
        tuple(_at_least("stream", metric, 1.2, "uvicorn") for metric in ("c1_cps", "c10_cps")),
    ),
    Goal(
        "stream through one middle deployment, part of the direct stream, 1 and 10 clients",
        tuple(_at_least("stream", metric, 0.5) for metric in ("relay_c1", "relay_c10")),
        tuple(_at_least("stream", metric, 0.8) for metric in ("relay_c1", "relay_c10")),
    ),
    Goal(
        "time to first chunk",
        (_at_most("stream", "first_ms", 2, "uvicorn"),),
        (_at_most("stream", "first_ms", 1.5, "uvicorn"),),
    ),
    Goal(
        "overload, 3 x capacity: part of the peak, p99 of the accepted against 80 % load",
        (_at_least("overload", "goodput", 0.9), _at_most("overload", "p99_ratio", 2)),
        (_at_least("overload", "goodput", 0.97),),
    ),
)
