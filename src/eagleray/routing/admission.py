"""Admission: whether a request that finds no room may wait, and what it is told if not."""

from __future__ import annotations

from eagleray.base.errors import BackPressureError, DeploymentUnavailableError, EaglerayError
from eagleray.base.ids import DeploymentID
from eagleray.routing.table import DeploymentEntry


def refusal(entry: DeploymentEntry | None, queued: int, has_replicas: bool) -> EaglerayError | None:
    """Why a request may not join a queue of `queued` waiting ones, or None if it may.

    A deployment that no table names is waited for, though not for ever: its deploy may be under way (surface 2.6).
    """
    if entry is None:
        return None
    if entry.failed and not has_replicas:
        return DeploymentUnavailableError(DeploymentID(entry.name, entry.app))
    if 0 <= entry.max_queued <= queued:
        return BackPressureError(
            queued, entry.max_queued, entry.backpressure_status, entry.backpressure_retry_after_s
        )
    return None
