"""One line for each request: when it was to leave, when it left, when it ended, and how.

Lines are JSON, so that any tool reads them. Pure; who writes them owns the file.
"""

from __future__ import annotations

import json
from typing import NamedTuple


class Line(NamedTuple):
    """One request. Times are monotonic seconds; `t_sent` is 0 when it never left."""

    number: int
    t_intended: float
    t_sent: float
    t_ended: float
    status: int
    """0 without an answer; then there is an `error`."""
    error: str
    head: bytes
    """Of the answer, in lower case, where bodies are kept."""
    body: bytes
    """The same."""

    @property
    def latency_s(self) -> float:
        """From the intended time."""
        return self.t_ended - self.t_intended

    def to_json(self, origin: float) -> str:
        """With times in seconds since `origin` and a line end."""
        shown: dict[str, int | float | str | None] = {
            "n": self.number,
            "intended_s": round(self.t_intended - origin, 6),
            "sent_s": round(self.t_sent - origin, 6) if self.t_sent else None,
            "ended_s": round(self.t_ended - origin, 6),
            "latency_ms": round(self.latency_s * 1000, 3),
            "status": self.status,
        }
        if self.error:
            shown["error"] = self.error
        return json.dumps(shown) + "\n"
