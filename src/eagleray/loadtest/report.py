"""What a load test has found, as a document for programs and as text for people. The text is made of the document.

Pure. Latencies are milliseconds here; what there is none of is None, and what is infinitely late is the text "inf".
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from eagleray.loadtest.histogram import Histogram
from eagleray.loadtest.plan import Message, Plan, Url
from eagleray.loadtest.tally import Tally

PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)

_BARS = 12
_BAR_WIDTH = 40
_BLOCKS = " ▏▎▍▌▋▊▉█"
FULL_CPU = 0.9
"""Share of a core from which on a client has no time left: the rest goes to the kernel's own work for it."""
_LATE_S = 0.005
"""Sends later than this are no noise of timers, which ring within a fraction of a millisecond."""
_CURVE = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 92, 94, 96, 98, 99)
"""Percentiles of the picture; then each further nine in three steps, as far as there are answers."""
_FEW = 10
"""Answers beyond a percentile below which it is a matter of luck."""


def summary(url: Url, message: Message, plan: Plan, tally: Tally) -> dict[str, Any]:
    """The document of one load."""
    is_open = plan.rate is not None
    return {
        "url": str(url),
        "method": message.method,
        "loop": "open" if is_open else "closed",
        "rate": plan.rate,
        "arrivals": ("poisson" if plan.is_poisson else "constant") if is_open else None,
        "connections": plan.connections,
        "keep_alive": plan.keep_alive,
        "warm_up_s": plan.warm_up_s,
        "seconds": round(tally.seconds, 3),
        "rps": round(tally.rate, 1),
        "sent": tally.sent,
        "answers": {str(status): count for status, count in sorted(tally.statuses.items())},
        "errors": dict(tally.errors.most_common()),
        "unfinished": tally.unfinished,
        "latency_ms": latencies(tally.good),
        "refused_latency_ms": latencies(tally.bad),
        "send_lag_ms": latencies(tally.lag) if is_open else None,
        "waited_for_connection": tally.waited,
        "bytes_in": tally.bytes_in,
        "client_cpu": round(tally.client_cpu, 3),
        "notes": list(notes(plan, tally)),
        "percentiles_ms": [
            [percent, to_ms(tally.good.percentile(percent))] for percent in _curve(tally.good.count)
        ],
        "histogram_ms": [[to_ms(low), to_ms(high), count] for low, high, count in tally.good.bars(_BARS)],
        "points": [
            {
                "t_s": round(point.t_s, 3),
                "rps": round(point.answered / point.seconds, 1),
                "failed_per_s": round(point.failed / point.seconds, 1),
                "p50_ms": to_ms(point.p50_s),
                "p99_ms": to_ms(point.p99_s),
            }
            for point in tally.points
        ],
    }


def latencies(found: Histogram) -> dict[str, Any] | None:
    """Percentiles and the like by name; None when nothing was counted."""
    if not found.count:
        return None
    named = {f"p{percent:g}": to_ms(found.percentile(percent)) for percent in PERCENTILES}
    return {"mean": to_ms(found.mean), "min": to_ms(found.lowest), **named, "max": to_ms(found.highest)}


def _curve(count: int) -> Iterable[float]:
    if not count:
        return
    yield from _CURVE
    beyond = 0.01
    while beyond * count >= 1:
        yield from (round(100 * (1 - beyond * share), 8) for share in (0.5, 0.2, 0.1))
        beyond /= 10


def notes(plan: Plan, tally: Tally) -> Iterable[str]:
    """What keeps the figures from meaning what they seem to mean."""
    if is_client_late(tally):
        yield (
            "The client was too slow to send on schedule: 1 % of its requests left "
            f"{tally.lag.percentile(99) * 1000:.1f} ms or more too late, which is part of their latencies. "
            "Use a lower rate or another machine."
        )
    elif tally.client_cpu >= FULL_CPU:
        yield "The client's core was busy all the time: the server may be faster than this. Use another machine."
    if tally.waited:
        yield (
            f"{tally.waited:,} requests found all {plan.connections} connections busy and left later; "
            "the wait is part of their latencies. --connections allows more."
        )
    if tally.good.count < _FEW * 100:
        yield f"{tally.good.count:,} good answers are few for a p99: measure longer."


def failures(tally: Tally) -> list[tuple[str, int]]:
    """Everything but good answers, by what it was."""
    refused = [(str(status), count) for status, count in sorted(tally.statuses.items()) if status >= 400]
    return refused + tally.errors.most_common()


def is_client_late(tally: Tally) -> bool:
    """Whether this process, not the server, kept requests from leaving at their times."""
    return tally.lag.count > 0 and tally.lag.percentile(99) > _LATE_S


def to_ms(seconds: float) -> Any:
    """Four significant digits, as JSON has them."""
    if math.isnan(seconds):
        return None
    return "inf" if math.isinf(seconds) else float(f"{seconds * 1000:.4g}")


def text(found: dict[str, Any]) -> str:
    """The document of `summary` for a person."""
    lines = [f"{found['method']} {found['url']}", f"  {_how(found)}", ""]
    lines.append(f"  rate       {found['rps']:,.1f} good answers/s for {found['seconds']:g} s")
    answers = "  ".join(f"{status}: {count:,}" for status, count in found["answers"].items())
    lines.append(f"  answers    {answers or 'none'}")
    errors = "  ".join(f"{kind}: {count:,}" for kind, count in found["errors"].items())
    lines.append(f"  errors     {errors or 'none'}")
    if found["unfinished"]:
        lines.append(f"  unfinished {found['unfinished']:,}, when it was stopped")
    shown = (("latency", "latency_ms"), ("from 400", "refused_latency_ms"), ("send lag", "send_lag_ms"))
    for title, key in shown:
        if found[key]:
            lines.append(f"  {title:<10} {_percentiles(found[key])}")
    lines += ["", *_histogram(found["histogram_ms"])]
    lines += [f"  ! {note}" for note in found["notes"]]
    return "\n".join(lines).rstrip() + "\n"


def _how(found: dict[str, Any]) -> str:
    kept = "" if found["keep_alive"] else ", a new one for each request"
    warm_up = f", after {found['warm_up_s']:g} s of warm-up" if found["warm_up_s"] else ""
    if found["loop"] == "closed":
        return f"closed loop, {found['connections']} connections{kept}{warm_up}"
    return (
        f"open loop, {found['rate']:g} requests/s at {found['arrivals']} intervals, up to {found['connections']} "
        f"connections{kept}{warm_up}; latency counts from the intended time"
    )


def _percentiles(found: dict[str, Any]) -> str:
    return "  ".join(f"{name} {shown_ms(found[name])}" for name in ("p50", "p90", "p99", "p99.9", "max"))


def shown_ms(value: Any) -> str:
    """Milliseconds for a person; seconds from ten on."""
    if not isinstance(value, int | float):
        return str(value or "-")
    return (
        f"{value / 1000:.3g} s"
        if value >= 10_000
        else f"{value:.3g} ms"
        if value < 100
        else f"{value:.0f} ms"
    )


def _histogram(bars: list[list[Any]]) -> list[str]:
    most = max((count for _, _, count in bars), default=0)
    lines = []
    for _, high, count in bars:
        eighths = math.ceil(count / most * _BAR_WIDTH * 8)
        bar = _BLOCKS[8] * (eighths // 8) + _BLOCKS[eighths % 8].strip()
        lines.append(f"  {'< ' + shown_ms(high):>11} {count:>10,} {bar}".rstrip())
    return [*lines, ""] if lines else []
