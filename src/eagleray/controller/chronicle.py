"""The last thousand events of the instance: what changed, to whom it belongs, and why.

Ids grow, also over restarts of the controller, since they begin with its wall time: who reads on from the last one it
has seen misses nothing that is still there, and is told when something is not. Plain data, bounded in number and size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from itertools import takewhile
from typing import Any

import msgspec

from eagleray.base.secrets import hide_text

MOST = 1000
"""Events that are kept."""

MOST_TEXT = 2000
"""Characters of a message or a cause; of a longer one the end counts, where a traceback has its exception."""

_IDS_PER_S = 1_000_000


class Kind(StrEnum):
    """What has happened; docs/rest.md says of what."""

    CONTROLLER_STARTED = "controller_started"
    INSTANCE_DRAINING = "instance_draining"
    INSTANCE_SHUTDOWN = "instance_shutdown"
    CONFIG_APPLIED = "config_applied"
    APPLICATION_DEPLOYED = "application_deployed"
    APPLICATION_STATUS = "application_status"
    APPLICATION_DELETED = "application_deleted"
    DEPLOYMENT_STATUS = "deployment_status"
    DEPLOYMENT_DELETED = "deployment_deleted"
    ROLLOUT_BEGUN = "rollout_begun"
    ROLLOUT_FINISHED = "rollout_finished"
    ROLLOUT_STOPPED = "rollout_stopped"
    ROLLED_BACK = "rollout_rolled_back"
    SCALED = "scaled"
    STARTING = "starting"
    READY = "ready"
    START_FAILED = "start_failed"
    DIED = "died"
    UNHEALTHY = "unhealthy"
    REFUSED = "refused"
    EXPIRED = "expired"
    PAUSED = "paused"
    RESUMED = "resumed"
    STOPPING = "stopping"
    KILLED = "killed"
    ENDED = "ended"


class Occurrence(msgspec.Struct, frozen=True):
    """One event; `at` is wall time. What it does not belong to is None."""

    id: int
    at: float
    kind: Kind
    message: str
    cause: str = ""
    application: str | None = None
    deployment: str | None = None
    instance: str | None = None


class Chronicle:
    """Belongs to the controller's loop."""

    def __init__(self, wall_time_s: Callable[[], float]) -> None:
        self._wall_time_s = wall_time_s
        self._events: deque[Occurrence] = deque(maxlen=MOST)
        self._first_id = int(wall_time_s()) * _IDS_PER_S
        self._last_id = self._first_id

    def add(
        self, kind: Kind, message: str, cause: str = "", *, key: str = "", instance: str | None = None
    ) -> None:
        """`key` is that of a deployment, or the name of an application; of both only the parts that are there."""
        app, _, deployment = key.partition("#")
        self._last_id += 1
        self._events.append(
            Occurrence(
                self._last_id,
                self._wall_time_s(),
                kind,
                _shown(message),
                _shown(cause),
                app or None,
                deployment or None,
                instance,
            )
        )

    def read(
        self, since: int = 0, application: str | None = None, limit: int | None = None
    ) -> dict[str, Any]:
        """Events after the id `since`, the oldest first; of one application, and the newest `limit`, where given."""
        found = list(takewhile(lambda one: one.id > since, reversed(self._events)))
        missed = self._last_id > self._first_id and 0 < since < self._events[0].id - 1
        if application is not None:
            found = [one for one in found if one.application == application]
        found = found[: MOST if limit is None else limit]
        return {
            "events": [msgspec.to_builtins(one) for one in reversed(found)],
            "next": self._last_id,
            "missed": missed,
        }


def _shown(text: str) -> str:
    """Errors of user code may tell anything."""
    text = text.strip()
    return hide_text(text if len(text) <= MOST_TEXT else "..." + text[-MOST_TEXT:])
