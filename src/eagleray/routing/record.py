"""What a router has learned of one replica: how fast it answers, which models it holds, and what became of its calls.

Kept only where there is something to choose: a deployment with one replica and no models has none, and pays nothing.
Latencies are measured by the router itself, from sending a call to the beginning of its answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from eagleray.base.errors import EaglerayError, RequestTimeoutError
from eagleray.routing.outliers import Outliers
from eagleray.wire.messages import USER, ReplicaReport

if TYPE_CHECKING:
    from eagleray.routing.call import RoutedCall
    from eagleray.routing.waiting_room import Chooser

_RISE, _FALL = 0.1, 0.3
"""Weights of a new latency above and below the average: a replica that has recovered is believed sooner."""
_COLD = 8
"""Answers that are not judged yet: the first ones of a replica are slow everywhere."""
_PATIENCE, _FAIR_S = 3.0, 0.25
"""Times its usual latency that a replica must have had before a time-out counts against it; seconds, while that is not
known. A replica that hangs answers nothing, so its usual latency is that of its better days."""
_NOT_ITS_FAULT = frozenset(
    {"timeout", "cancelled", "config", "too_large", "unavailable", "backpressure", "not_running"}
)
"""Codes of calls that end without an answer and say nothing about the replica."""
_RELAYED = frozenset({502, 503, 504})
"""Statuses with which a replica passes on the trouble of somebody behind it."""


class Record:
    """The record of one replica in one router. Belongs to the router's loop, but for `sent`."""

    __slots__ = (
        "_chooser",
        "_clock",
        "_cold",
        "_name",
        "_outliers",
        "_sent_new_at",
        "follows",
        "latency_s",
        "models",
        "report",
        "sent_models",
    )

    def __init__(self, name: str, outliers: Outliers, clock: Callable[[], float]) -> None:
        self._name = name
        self._outliers = outliers
        self._clock = clock
        self.follows = False
        """Whether ends must be told by `ended`: there are models, or a chooser."""
        self._chooser: Chooser | None = None
        self._cold = _COLD
        self.latency_s = 0.0
        """Moving average; 0 as long as too little has been measured."""
        self.report: ReplicaReport | None = None
        self.models: frozenset[str] | None = None
        """Models that the replica says it has, or is loading; None when it does not multiplex."""
        self.sent_models: dict[str, int] = {}
        """Model -> calls of ours for it that are there: it will have the model, if it has not said so yet."""
        self._sent_new_at = 0.0
        """When it last got a call of ours for a model that it did not have; 0: never."""

    # ---- calls -----------------------------------------------------------------------------------------------

    def sent(self, call: RoutedCall) -> None:
        """A call goes out to the replica; from any thread when it names no model."""
        call.sent_at = self._clock()
        if self.follows and (model_id := call.head.multiplexed_model_id):
            if not self.holds(model_id):
                self._sent_new_at = call.sent_at
            self.sent_models[model_id] = self.sent_models.get(model_id, 0) + 1

    def answered(self, call: RoutedCall, status: int) -> None:
        """The answer has begun; `status` is 0 for a handle call."""
        now = self._clock()
        if status >= 500:
            if status not in _RELAYED:
                self._outliers.failed(self._name, now, own_code=True)
            return
        if call.sent_at:
            sample, average = now - call.sent_at, self.latency_s
            if average:
                self.latency_s = average + (sample - average) * (_RISE if sample > average else _FALL)
            elif self._cold:
                self._cold -= 1
            else:
                self.latency_s = sample
        if self._outliers.watching:
            self._outliers.succeeded(self._name, now)

    def failed(self, code: str) -> None:
        """A call has ended without an answer."""
        if code == USER:
            self._outliers.failed(self._name, self._clock(), own_code=True)
        elif code not in _NOT_ITS_FAULT:
            self._outliers.failed(self._name, self._clock(), own_code=False)

    def given_up(self, call: RoutedCall, error: EaglerayError | None) -> None:
        """The caller does not wait for the answer any more. A deadline that was too short for anybody blames nobody."""
        fair_s = _PATIENCE * self.latency_s or _FAIR_S
        if isinstance(error, RequestTimeoutError) and self._clock() - call.sent_at >= fair_s:
            self._outliers.failed(self._name, self._clock(), own_code=False)

    def ended(self, call: RoutedCall) -> None:
        """The call is not there any more, also when it was refused. Need not be told unless `follows`."""
        if self._chooser is not None:
            self._chooser.ended(call)
        model_id = call.head.multiplexed_model_id
        if model_id:
            left = self.sent_models.get(model_id, 1) - 1
            if left:
                self.sent_models[model_id] = left
            else:
                self.sent_models.pop(model_id, None)

    def tell(self, chooser: Chooser | None) -> None:
        """Ends are told to `chooser` from now on."""
        self._chooser = chooser
        self._follow()

    def _follow(self) -> None:
        self.follows = self._chooser is not None or self.models is not None
        if not self.follows:
            self.sent_models.clear()

    # ---- models ----------------------------------------------------------------------------------------------

    def take(self, report: ReplicaReport) -> None:
        """The replica has told what it is like."""
        self.report = report
        self.models = None if report.models is None else frozenset(report.models)
        self._follow()

    def holds(self, model_id: str) -> bool:
        """Whether the replica has the model, or will have it soon."""
        return model_id in self.sent_models or (self.models is not None and model_id in self.models)

    @property
    def model_ids(self) -> frozenset[str]:
        """All models that the replica has or will have soon."""
        return (self.models or frozenset()).union(self.sent_models)

    @property
    def crowding(self) -> tuple[bool, int, float]:
        """Orders replicas by where one more model does least harm.

        Whether another one would have to go; how many there are; and of those that are full, where the last new one is
        oldest, so that a few models that are in use do not drive each other out of one replica.
        """
        models = self.models or frozenset()
        coming = sum(model_id not in models for model_id in self.sent_models)
        free = self.report.free_places if self.report is not None else -1
        is_full = 0 <= free <= coming
        return (is_full, len(models) + coming, self._sent_new_at if is_full else 0.0)

    @property
    def routing_stats(self) -> dict[str, Any]:
        return self.report.routing_stats if self.report is not None else {}

    @property
    def metadata(self) -> dict[str, Any]:
        return self.report.metadata if self.report is not None else {}
