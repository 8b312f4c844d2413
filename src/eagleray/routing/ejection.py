"""Takes replicas out of rotation, and back, as the judge of outliers says: timers and limits, no judgement.

An ejected replica keeps its connection and the calls that it has; it only gets no new ones.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from eagleray.routing.outliers import IN, OUT, Outliers
from eagleray.routing.target import Target
from eagleray.routing.waiting import LATE_S, After, Timer

logger = logging.getLogger("eagleray.routing")


class Ejection:
    """Of one pool. `find` gives the target of a replica id, `wake` is called when a replica takes calls again."""

    def __init__(
        self,
        key: str,
        find: Callable[[str], Target | None],
        after: After,
        clock: Callable[[], float],
        wake: Callable[[], object],
    ) -> None:
        self.outliers = Outliers(self._on_judged)
        self._key = key
        self._find = find
        self._after = after
        self._clock = clock
        self._wake = wake
        self._timers: dict[str, Timer] = {}

    def keep(self, replica_ids: Iterable[str]) -> None:
        """These can be reached."""
        self.outliers.keep(replica_ids)

    def forget(self, replica_id: str) -> None:
        """The replica is gone for good."""
        self.outliers.forget(replica_id)
        self._cancel(replica_id)

    def close(self) -> None:
        for replica_id in tuple(self._timers):
            self._cancel(replica_id)

    def _cancel(self, replica_id: str) -> None:
        timer = self._timers.pop(replica_id, None)
        if timer is not None:
            timer.cancel()

    def _on_judged(self, replica_id: str) -> None:
        self._cancel(replica_id)
        target = self._find(replica_id)
        if target is None:
            return
        state = self.outliers.state(replica_id)
        target.cap = None if state == IN else 0 if state == OUT else 1
        target.limit()
        if state == OUT:
            rest_s = max(0.0, self.outliers.until(replica_id) - self._clock())
            logger.warning(
                "Replica %s of %s fails far more than its peers: it gets no requests for %.0f s.",
                *(replica_id, self._key, rest_s),
            )
            self._wait_for_probe(replica_id, rest_s)
            return
        if state == IN:
            logger.info("Replica %s of %s gets requests again.", replica_id, self._key)
        self._wake()

    def _wait_for_probe(self, replica_id: str, rest_s: float) -> None:
        self._timers[replica_id] = self._after(rest_s + LATE_S, lambda: self._probe(replica_id))

    def _probe(self, replica_id: str) -> None:
        del self._timers[replica_id]
        if not self.outliers.probe(replica_id, self._clock()) and self.outliers.state(replica_id) == OUT:
            self._wait_for_probe(replica_id, self.outliers.until(replica_id) - self._clock())
