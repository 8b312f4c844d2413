"""`serve.metrics`: counters, gauges and histograms of user code, exported beside those of the instance.

A metric is a name with tag keys. Where it counts is found when it is used, so it may be made anywhere and pickled; in a
replica, deployment, replica and application are added as tags. Series are resolved once for each set of tag values.
What user code puts into tags is bounded: sets beyond the bound are counted together.

May be used in any thread. Nothing is raised for what only the export dislikes: a bad name costs the metric, not the
request.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, Self

from eagleray.base.deprecation import warn_deprecated
from eagleray.base.metrics import MOST_CHARACTERS, OVERFLOW, Metric, Registry
from eagleray.base.metrics import Distribution as _Distribution
from eagleray.base.metrics import Value as _Value
from eagleray.serve.context import Place, current_place, current_request

logger = logging.getLogger("ray.serve")

__all__ = ["Counter", "Gauge", "Histogram", "record_metric"]

REPLICA_TAGS = ("deployment", "replica", "application")
"""Tags that a replica adds."""
_ROUTE = "route"
_MOST_SERIES = 500
"""Sets of tag values of one metric in one process."""
_MOST_METRICS = 1000
"""Metrics of one process, ours among them; further ones are discarded."""
_MOST_RECORDED = 200
"""Names that `record_metric` takes in one process."""
_RECORDED = tuple(10.0**exponent * step for exponent in range(-4, 6) for step in (1, 2.5, 5))
"""Buckets of what `record_metric` is given, of which nobody has said what it is."""

_lock = threading.Lock()
"""Several metrics, in several threads, may count on one series; an addition is short."""


class _UserMetric:
    """What the three kinds share. `_series` are those of `_place`; both are anew in each process."""

    def __init__(self, name: str, description: str = "", tag_keys: Sequence[str] | None = None) -> None:
        if not name:
            raise ValueError("Empty name is not allowed. Please provide a metric name.")
        if tag_keys is not None and not isinstance(tag_keys, tuple):
            raise TypeError(f"tag_keys should be a tuple type, got: {type(tag_keys)}")
        for key in tag_keys or ():
            if not isinstance(key, str):
                raise TypeError(f"Tag keys must be str, got {type(key)}.")
        self._name = name
        self._description = description
        self._tag_keys: tuple[str, ...] = tag_keys or ()
        self._default_tags: dict[str, str] = {}
        self._is_discarded = re.fullmatch(r"[A-Za-z0-9_:]+", name) is None
        if self._is_discarded:
            logger.warning(
                "Invalid metric name: %s. Metric will be discarded and data will not be collected or published. Metric "
                "names can only contain letters, numbers, _, and :.",
                name,
            )
        self._place: Place | None = None
        self._series: dict[tuple[str, ...], Any] = {}
        self._check_reserved(current_place())

    # ---- what it is ------------------------------------------------------------------------------------------

    @property
    def info(self) -> dict[str, Any]:
        """Name, description, tag keys with those that a replica adds, and default tags."""
        place = current_place()
        added = REPLICA_TAGS if place is not None and place.labels else ()
        return {
            "name": self._name,
            "description": self._description,
            "tag_keys": added + self._tag_keys,
            "default_tags": dict(self._default_tags),
        }

    def set_default_tags(self, default_tags: dict[str, str]) -> Self:
        """Values of tags that calls leave out. ValueError for an unknown key, TypeError for a value that is no str."""
        for key, value in default_tags.items():
            if key not in self._tag_keys:
                raise ValueError(f"Unrecognized tag key {key}.")
            if not isinstance(value, str):
                raise TypeError(f"Tag values must be str, got {type(value)}.")
        self._default_tags = dict(default_tags)
        self._series = {}
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_place": None, "_series": {}}

    def _check_reserved(self, place: Place | None) -> None:
        if place is not None and place.labels:
            for tag in REPLICA_TAGS:
                if tag in self._tag_keys:
                    raise ValueError(f"'{tag}' tag is reserved for Ray Serve metrics")

    # ---- counting --------------------------------------------------------------------------------------------

    def _find(self, tags: Mapping[str, str] | None) -> Any:
        """The series of a call with these tags; None where nothing is counted."""
        place = current_place()
        if place != self._place:
            self._check_reserved(place)
            self._series, self._place = {}, place
        values = self._values(tags)
        if place is None or self._is_discarded or not place.registry.enabled:
            return None
        series = self._series.get(values)
        return series if series is not None else self._open(place, values)

    def _values(self, tags: Mapping[str, str] | None) -> tuple[str, ...]:
        if not self._tag_keys:
            return ()
        given = {**self._default_tags, **tags} if tags else self._default_tags
        for value in tags.values() if tags else ():
            if not isinstance(value, str):
                raise TypeError(f"Tag values must be str, got {type(value)}.")
        if _ROUTE in self._tag_keys and _ROUTE not in given:
            given = {**given, _ROUTE: current_request().route}
        missing = [key for key in self._tag_keys if key not in given]
        if missing:
            raise ValueError(f"Missing value for tag key(s): {','.join(missing)}.")
        return tuple([given[key] for key in self._tag_keys])

    def _open(self, place: Place, values: tuple[str, ...]) -> Any:
        added = REPLICA_TAGS if place.labels else ()
        with _lock:
            try:
                if place.registry.get(self._name) is None and place.registry.size >= _MOST_METRICS:
                    raise ValueError(f"This process has {_MOST_METRICS} metrics. Tell things apart by tags.")
                metric = self._metric(place.registry, _labels(added, self._tag_keys))
            except ValueError as error:  # another one has its name; requests are worth more than a number
                self._is_discarded = True
                logger.warning("Metric %s is discarded: %s", self._name, error)
                return None
            if len(self._series) >= _MOST_SERIES or any(len(value) > MOST_CHARACTERS for value in values):
                metric.folded += 1
                return self._resolve(metric, (*place.labels, *(OVERFLOW for _ in values)))
            series = self._series[values] = self._resolve(metric, (*place.labels, *values))
        return series

    def _metric(self, registry: Registry, labels: tuple[str, ...]) -> Metric:
        raise NotImplementedError

    def _resolve(self, metric: Metric, labels: tuple[str, ...]) -> Any:
        return metric.value(*labels)


class Counter(_UserMetric):
    """Only grows; exported as `ray_<name>_total`."""

    def inc(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
        """Adds `value`, a number above 0: TypeError or ValueError for another one, or for a tag without a value."""
        if not isinstance(value, int | float):
            raise TypeError(f"value must be int or float, got {type(value)}.")
        if not value > 0:
            raise ValueError(f"value must be >0, got {value}")
        series: _Value | None = self._find(tags)
        if series is not None:
            with _lock:
                series.value += value

    def _metric(self, registry: Registry, labels: tuple[str, ...]) -> Metric:
        return registry.counter(self._name, self._description, *labels)


class Gauge(_UserMetric):
    """What is so now; exported as `ray_<name>`."""

    def set(self, value: float | None, tags: dict[str, str] | None = None) -> None:
        """Takes over `value`; None is ignored. TypeError for no number, ValueError for a tag without a value."""
        if value is None:
            return
        if not isinstance(value, int | float):
            raise TypeError(f"value must be int or float, got {type(value)}.")
        series: _Value | None = self._find(tags)
        if series is not None:
            series.value = float(value)

    def _metric(self, registry: Registry, labels: tuple[str, ...]) -> Metric:
        return registry.gauge(self._name, self._description, *labels)


class Histogram(_UserMetric):
    """Counts observations by buckets; exported as `ray_<name>_bucket`, `_sum` and `_count`."""

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: Sequence[float] | None = None,
        tag_keys: tuple[str, ...] | None = None,
    ) -> None:
        """`boundaries`: upper bounds of the buckets, all above 0; ValueError without."""
        super().__init__(name, description, tag_keys)
        if not boundaries:
            raise ValueError(
                "boundaries argument should be provided when using the Histogram class. e.g., "
                'Histogram("name", boundaries=[1.0, 2.0])'
            )
        if not all(bound > 0 for bound in boundaries):
            raise ValueError(
                f"Invalid `boundaries` argument for histogram: all must be > 0, got {boundaries}."
            )
        self.boundaries = list(boundaries)

    @property
    def info(self) -> dict[str, Any]:
        return {**super().info, "boundaries": self.boundaries}

    def observe(self, value: float, tags: dict[str, str] | None = None) -> None:
        """Counts `value`, unless it is NaN: a sum with it would stay so.

        TypeError for what is no number, ValueError for a tag without a value.
        """
        if not isinstance(value, int | float):
            raise TypeError(f"value must be int or float, got {type(value)}.")
        series: _Distribution | None = self._find(tags)
        if series is not None and value == value:
            with _lock:
                series.observe(value)

    def _metric(self, registry: Registry, labels: tuple[str, ...]) -> Metric:
        bounds = sorted(
            set(map(float, self.boundaries)) - {inf}
        )  # there always is a last bucket without a bound
        return registry.histogram(self._name, self._description, *labels, bounds=bounds)

    def _resolve(self, metric: Metric, labels: tuple[str, ...]) -> Any:
        return metric.distribution(*labels)


_recorded: dict[str, Histogram] = {}


def record_metric(name: str, value: float) -> None:
    """Notes a number under a name, for code that has no metric of its own: a histogram, whose `_sum` and `_count` say
    how much there was and how often. Deprecated: make a Histogram, a Counter or a Gauge.
    """
    found = _recorded.get(name)
    if found is None:
        warn_deprecated(
            f"serve.metrics.record_metric is deprecated: make `serve.metrics.Histogram('{name}', boundaries=[...])`, a "
            f"Counter or a Gauge once, and count there."
        )
        if len(_recorded) >= _MOST_RECORDED:
            name = OVERFLOW
        found = _recorded.setdefault(name, Histogram(name, "Recorded by user code.", _RECORDED))
    found.observe(value)


def _label(key: str) -> str:
    """A tag key as a label of Prometheus; as Ray does, characters that cannot be become `_`."""
    label = re.sub(r"[^A-Za-z0-9_]", "_", key)
    is_reserved = label == "le" or label.startswith("__")  # what begins so is Prometheus' own
    return f"key_{label}" if not label or label[0].isdigit() or is_reserved else label


def _labels(added: Sequence[str], keys: Sequence[str]) -> tuple[str, ...]:
    """All of them, each once: two keys may have become the same label, with which no scrape could be read."""
    labels = list(added)
    for label in map(_label, keys):
        while label in labels:
            label += "_"
        labels.append(label)
    return tuple(labels)
