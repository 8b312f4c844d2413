"""Open-loop HTTP load: requests leave at their own times, whatever happens to those before them.

Latency counts from the intended time, so a server that falls behind is charged for it (no coordinated omission).
The client is that of `eagleray bench`; here every answer is kept, for scenarios that compare exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import uvloop

from bench.load import Request
from eagleray.loadtest.ledger import Line
from eagleray.loadtest.load import Load
from eagleray.loadtest.plan import Message, Plan, Url

_END_S = 15.0
"""Seconds after the last request in which answers may still come."""
_CONNECTIONS = 10_000
"""More than any scenario has requests under way."""


@dataclass
class Outcome:
    """What became of the requests of one run: status (0: none came) and seconds since the intended time."""

    seconds: float
    answers: list[tuple[int, float]] = field(default_factory=list)

    def latencies(self, status: int = 200) -> list[float]:
        """Sorted, of the answers with that status."""
        return sorted(latency for answered, latency in self.answers if answered == status)

    def rate(self, within_s: float = float("inf")) -> float:
        """Good answers a second that took no longer than `within_s`."""
        return sum(status == 200 and latency <= within_s for status, latency in self.answers) / self.seconds

    def percentile_ms(self, percent: float, status: int = 200) -> float:
        found = self.latencies(status)
        return found[min(len(found) - 1, int(len(found) * percent / 100))] * 1000 if found else float("nan")


def run(port: int, request: Request, rate: float, seconds: float, seed: int = 1) -> Outcome:
    """Poisson arrivals of `rate` requests a second for `seconds`; the same seed gives the same arrivals."""
    headers = [("Content-Type", request.content_type)] if request.content_type else []
    sent = Message(request.method, headers, request.body).encode(Url("127.0.0.1", port, request.path))
    plan = Plan(
        rate=rate,
        is_poisson=True,
        seed=seed,
        connections=_CONNECTIONS,
        duration_s=seconds,
        warm_up_s=0.0,
        timeout_s=seconds + _END_S,
    )
    outcome = Outcome(seconds)

    def note(line: Line) -> None:
        outcome.answers.append((line.status, line.latency_s if line.status else float("inf")))

    uvloop.run(Load(plan, ("127.0.0.1", port), sent, on_line=note).run())
    return outcome
