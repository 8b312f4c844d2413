"""Admission: whether a request that finds no room may wait, and what it is told if not."""

from __future__ import annotations

from collections.abc import Callable

from eagleray.base.errors import BackPressureError, DeploymentUnavailableError, EaglerayError
from eagleray.base.ids import DeploymentID
from eagleray.routing.board import Board
from eagleray.routing.table import DeploymentEntry
from eagleray.routing.waiting import Waiting

_RATE_WINDOW_S = 1.0
"""Seconds over which replies are counted, at least, to tell a refused caller when to come again."""
_RATE_STALE_S = 10.0
"""A count that began longer ago says nothing about now."""
_RETRY_AFTER_S = (1.0, 60.0)
"""Bounds of what a refused caller is told to wait."""


def unavailable(entry: DeploymentEntry | None, has_replicas: bool) -> EaglerayError | None:
    """Why nobody will ever answer, or None.

    A deployment that no table names is waited for, though not for ever: its deploy may be under way (surface 2.6).
    """
    if entry is not None and entry.failed and not has_replicas:
        return DeploymentUnavailableError(DeploymentID(entry.name, entry.app))
    return None


class Limit:
    """`max_queued_requests` of one deployment, for all routers of the machine together, and the rate of its replies.

    `open_board` gives the count that the routers share, or None where nothing is shared.
    """

    def __init__(self, open_board: Callable[[], Board | None], clock: Callable[[], float]) -> None:
        self.replies = 0
        """How many calls of this router have been answered; whoever answers counts."""
        self._open_board = open_board
        self._clock = clock
        self._tried = False
        self._counted_at = clock()
        self._counted = 0
        self._rate = 0.0

    def update(self, entry: DeploymentEntry, waiting: Waiting) -> None:
        """Takes over what a new table says."""
        if entry.max_queued >= 0 and not self._tried:
            self._tried = True
            board = self._open_board()
            if board is not None:
                waiting.share(board)

    def refusal(self, entry: DeploymentEntry, waiting: Waiting, surplus: int) -> EaglerayError | None:
        """Why the last of those who wait, who has been counted already, is one too many; None if it is not.

        `surplus` says how many of this router wait for more than to be chosen for. The last one is counted before
        this looks: of two routers that come at once neither may overlook the other.
        """
        limit, board = entry.max_queued, waiting.board
        if limit < 0:
            return None
        queued = surplus - 1
        if board is not None:
            chosen = waiting.count - surplus
            queued = board.total() - chosen - 1
            if queued >= limit:
                board.clear_dead()
                queued = board.total() - chosen - 1
        if queued < limit:
            return None
        retry_after_s = entry.backpressure_retry_after_s
        if retry_after_s is None:
            retry_after_s = self._retry_after_s(queued)
        return BackPressureError(queued, limit, entry.backpressure_status, retry_after_s)

    def _retry_after_s(self, queued: int) -> float:
        """Seconds until those who wait have probably been served: how many, over how fast replies come."""
        now = self._clock()
        passed = now - self._counted_at
        if passed >= _RATE_WINDOW_S:
            self._rate = (self.replies - self._counted) / passed if passed < _RATE_STALE_S else 0.0
            self._counted_at, self._counted = now, self.replies
        least, most = _RETRY_AFTER_S
        return min(most, max(least, queued / self._rate)) if self._rate else least
