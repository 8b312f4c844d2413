"""How many replicas keep the p95 of response times under a target: a queueing model of what has been measured.

Each replica is taken for a processor that its calls share, so that a mean response lasts `s / (1 - u)` at utilisation
`u`, and the p95 is three times the mean (exponential). `s`, the time that a call alone would take, follows from the
response time measured at the present utilisation, so a service that bears more than the model thinks is found out by
and by: it gets fewer replicas as long as its responses allow it.
"""

from __future__ import annotations

_P95_OF_MEAN = 3.0
"""ln 20: the p95 of an exponential distribution over its mean."""

_LEAST_UTILISATION, _MOST_UTILISATION = 0.1, 0.8
"""Beyond the most, response times depend on chance; below the least, more replicas change nothing."""

_MARGIN = 1.25
"""Replicas go only when fewer would do for so much more load: else the count would swing."""

_MOST_GROWTH = 2.0
"""At most so many times the replicas at once: what is measured then says whether it was enough."""


def replicas_for(
    p95_s: float,
    *,
    replicas: int,
    served_by: float,
    ongoing: float,
    per_second: float,
    growth: float,
    waiting: float,
) -> float:
    """The count that is wanted while `replicas` (at least 1) run.

    On average `served_by` replicas ran, `ongoing` calls waited or ran, `per_second` ended, `growth` more began than
    ended each second; `waiting` a second wait now and should be served soon.
    """
    if per_second <= 0:
        return replicas + 1.0 if ongoing > replicas else float(replicas) if ongoing else 0.0
    response_s = ongoing / per_second  # Little's law
    alone_s = response_s / (1.0 + per_second / max(served_by, 1.0) * response_s)
    utilisation = 1.0 - _P95_OF_MEAN * alone_s / p95_s
    utilisation = min(max(utilisation, _LEAST_UTILISATION), _MOST_UTILISATION)
    wanted = (per_second + max(growth, 0.0) + waiting) * alone_s / utilisation
    if wanted > replicas:
        return min(wanted, _MOST_GROWTH * replicas + 1)
    return min(wanted * _MARGIN, float(replicas))
