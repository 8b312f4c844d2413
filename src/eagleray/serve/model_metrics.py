"""What a replica counts of its models: Ray Serve's series of multiplexing, and hits and misses of the cache."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic

from eagleray.base.metrics import Registry

_LABELS = ("deployment", "replica", "application")
_MOST_MODELS = 500
"""Models that are told by name."""
_TOLD_S = 30.0
"""Seconds after which a collector has seen that a model has gone."""


class ModelMetrics:
    """Belongs to the replica's loop. `labels`: deployment, replica, application; `loaded` says how many models there
    are, in the collecting thread.
    """

    def __init__(self, registry: Registry, labels: tuple[str, str, str], loaded: Callable[[], int]) -> None:
        self._labels = labels

        def counter(name: str, help: str) -> Callable[[], None]:
            return registry.counter(name, help, *_LABELS).value(*labels).inc

        self._requests = counter(
            "serve_multiplexed_get_model_requests_counter", "Times that a request has asked for a model."
        )
        self._hits = counter("eagleray_multiplexed_model_hits", "Times that the model was there.")
        self._misses = counter(
            "eagleray_multiplexed_model_misses",
            "Times that the model had to be loaded, or was just being loaded.",
        )
        self._loads = counter("serve_multiplexed_models_load_counter", "Loads of models that were begun.")
        self._unloads = counter("serve_multiplexed_models_unload_counter", "Models that were unloaded.")
        self._load_time = registry.histogram(
            "serve_multiplexed_model_load_latency_ms", "Time to load a model, in milliseconds.", *_LABELS
        ).distribution(*labels)
        self._unload_time = registry.histogram(
            "serve_multiplexed_model_unload_latency_ms", "Time to unload a model, in milliseconds.", *_LABELS
        ).distribution(*labels)
        number = registry.gauge("serve_num_multiplexed_models", "Models that are loaded.", *_LABELS)
        number.read(loaded, *labels)
        self._registered = registry.gauge(
            "serve_registered_multiplexed_model_id",
            "1: the model is loaded; 0: it was.",
            *_LABELS,
            "model_id",
        )
        self._named: set[str] = set()
        self._gone: deque[tuple[float, str]] = deque()

    def requested(self, is_there: bool) -> None:
        """A request has asked for a model."""
        self._requests()
        (self._hits if is_there else self._misses)()

    def load_begun(self) -> None:
        """A model is being loaded."""
        self._loads()

    def loaded(self, model_id: str, seconds: float) -> None:
        """It is there."""
        self._load_time.observe(seconds * 1000.0)
        self._forget()
        if len(self._named) < _MOST_MODELS:
            self._named.add(model_id)
            self._registered.value(*self._labels, model_id).set(1.0)

    def unloaded(self, model_id: str, seconds: float) -> None:
        """It has gone."""
        self._unloads()
        self._unload_time.observe(seconds * 1000.0)
        if model_id in self._named:
            self._registered.value(*self._labels, model_id).set(0.0)
            self._gone.append((monotonic(), model_id))

    def _forget(self) -> None:
        """Those that went long ago have been told, so that there is room for others."""
        until = monotonic() - _TOLD_S
        while self._gone and self._gone[0][0] < until:
            _, model_id = self._gone.popleft()
            series = self._registered.value(*self._labels, model_id)
            if not series.value:
                self._registered.forget(*self._labels, model_id)
                self._named.discard(model_id)
