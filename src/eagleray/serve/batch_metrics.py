"""What a replica counts of one batched function: Ray Serve's series of batches. Items cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Self

from eagleray.base.metrics import Registry
from eagleray.serve.context import current_place

_LABELS = ("deployment", "replica", "application", "function_name")
_PERCENT = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 100)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Ray Serve's buckets."""


class BatchMetrics:
    """The series of one function."""

    @classmethod
    def here(cls, function_name: str, waiting: Callable[[], int]) -> Self | None:
        """Those of the replica that this runs in; None elsewhere, or where nothing is counted.

        `waiting` says how many items wait, in the thread that collects.
        """
        place = current_place()
        if place is None or not place.labels or not place.registry.enabled:
            return None
        return cls(place.registry, (*place.labels, function_name), waiting)

    def __init__(self, registry: Registry, labels: tuple[str, ...], waiting: Callable[[], int]) -> None:
        histogram = registry.histogram
        self._wait = histogram(
            "serve_batch_wait_time_ms",
            "Time that the oldest item of a batch has waited for it, in milliseconds.",
            *_LABELS,
        ).distribution(*labels)
        self._execution = histogram(
            "serve_batch_execution_time_ms", "Time in the batched function, in milliseconds.", *_LABELS
        ).distribution(*labels)
        self._utilization = histogram(
            "serve_batch_utilization_percent",
            "Size of batches as a share of max_batch_size, in percent.",
            *_LABELS,
            bounds=_PERCENT,
        ).distribution(*labels)
        self._size = histogram(
            "serve_actual_batch_size", "Size of batches.", *_LABELS, bounds=_SIZES
        ).distribution(*labels)
        self._processed = registry.counter(
            "serve_batches_processed", "Batches that the function has processed.", *_LABELS
        ).value(*labels)
        length = registry.gauge("serve_batch_queue_length", "Items that wait for a batch.", *_LABELS)
        length.read(waiting, *labels)

    def begin(self, since: float, size: float, most: int) -> Callable[[object], None]:
        """A batch begins, the oldest item of which came at `since`; to be called when it has been processed."""
        begun_at = monotonic()
        self._wait.observe((begun_at - since) * 1000.0)
        self._size.observe(size)
        self._utilization.observe(100.0 * size / most)

        def end(_: object) -> None:
            self._execution.observe((monotonic() - begun_at) * 1000.0)
            self._processed.inc()

        return end
