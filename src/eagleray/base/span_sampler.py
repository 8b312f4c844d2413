"""OpenTelemetry's view of who is traced: whoever begins a trace decides for all below.

A request's root span comes with the decision made (`WANTED` in its context); a root span of a user's own code is
sampled by the ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from opentelemetry.context import Context, create_key, get_value
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)

if TYPE_CHECKING:
    from opentelemetry.trace import Link, SpanKind, TraceState
    from opentelemetry.util.types import Attributes

WANTED = create_key("eagleray-wanted")


class RequestSampler(Sampler):
    """See above."""

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio
        self._others = ParentBased(TraceIdRatioBased(ratio))

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        wanted = parent_context is not None and get_value(WANTED, parent_context)
        sampler: Sampler = ALWAYS_ON if wanted else self._others
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"RequestSampler({self._ratio:g})"
