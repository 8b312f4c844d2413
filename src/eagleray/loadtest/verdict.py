"""What a search for the highest rate has found, as a document and as text, beside the report of its best trial.

Pure. The conclusion says what limited, because a figure that the client's own slowness has made is none of the server.
"""

from __future__ import annotations

import math
from typing import Any

from eagleray.loadtest.hunt import CLIENT, CONNECTIONS, SERVER, Hunt, Trial
from eagleray.loadtest.plan import Message, Objective, Url
from eagleray.loadtest.report import failures, shown_ms, summary, text, to_ms

_WHY = {
    SERVER: "The server is the limit.",
    CLIENT: "This client is the limit: it could not send on schedule any more, and the server may hold more. "
    "Use another machine or a quieter one.",
    CONNECTIONS: "All connections were busy: the server is the limit, unless --connections allows more.",
    "": "No higher rate was tried.",
}


def verdict(url: Url, message: Message, objective: Objective, hunt: Hunt) -> dict[str, Any]:
    """The document of one search."""
    best = hunt.best
    return {
        "url": str(url),
        "slo_ms": to_ms(objective.latency_s),
        "percentile": objective.percentile,
        "rate": round(best.rate, 2) if best else None,
        "tail_ms": to_ms(best.tail_s) if best else None,
        "is_finished": hunt.is_finished,
        "limited_by": hunt.limit or None,
        "trials": [_trial(trial) for trial in hunt.trials],
        "report": summary(url, message, best.plan, best.tally) if best else None,
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "rate": round(trial.rate, 2),
        "tail_ms": to_ms(trial.tail_s),
        "failures": dict(failures(trial.tally)),
        "held": trial.held,
        "limited_by": trial.limit or None,
    }


def trial_text(trial: Trial, objective: Objective) -> str:
    """One line on one trial. One that was cut short has no figure, only that it is too high."""
    slo, tail = shown_ms(to_ms(objective.latency_s)), shown_ms(to_ms(trial.tail_s))
    shown = f"> {slo}" if math.isinf(trial.tail_s) else tail
    told = "holds" if trial.held else f"fails ({trial.limit})"
    errors = "   ".join(f"{kind}: {count:,}" for kind, count in failures(trial.tally))
    return f"{trial.rate:10,.1f}/s   p{objective.percentile:g} {shown:>9}   {told}   {errors}".rstrip()


def verdict_text(found: dict[str, Any]) -> str:
    """The document of `verdict` for a person, without the trials."""
    promise = f"p{found['percentile']:g} <= {shown_ms(found['slo_ms'])}"
    why = _WHY[found["limited_by"] or ""]
    if not found["is_finished"]:
        why = "The search was interrupted: higher ones may hold."
    if found["rate"] is None:
        return f"No rate was found that keeps {promise}. {why}\n"
    return f"{text(found['report'])}\nHighest rate with {promise}: {found['rate']:,.1f} requests/s. {why}\n"
