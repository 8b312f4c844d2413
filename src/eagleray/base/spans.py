"""Spans of this process: begins them under a W3C trace context, and hands them to an exporter when they end.

OpenTelemetry's SDK makes the spans, so that a user's own code and exporters work with them. `open_tracer` is the only
way in; it returns None, and imports nothing, where tracing is off. Who is traced decides before a span is made: a
request that is not sampled costs no object of the SDK.

It must be called after the fork. Attributes never hold what clients or users have sent: no query, header or body.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from eagleray.base.errors import ConfigError
from eagleray.base.log_files import safe_name
from eagleray.base.metrics import Registry
from eagleray.base.tracing import TracingOptions, is_sampled, unsampled_context

if TYPE_CHECKING:
    from opentelemetry.context import Context as Context
    from opentelemetry.trace import Span as Span

    from eagleray.base.span_outbox import Outbox, Sink

logger = logging.getLogger("eagleray.tracing")

OTLP = "otlp"
"""Stands for OpenTelemetry's own exporter in place of an import path; OTEL_EXPORTER_OTLP_* say where to."""
FILE = "file"
"""Stands for a file of each process in the directory `spans` of the logs; so does no path."""
_SCOPE = "eagleray"
_CLOSE_S = 0.5
"""Seconds that what waits to be exported may take at the end of a process: node kills after 1 s."""


class Tracer:
    """Begins spans. All methods may be called from any thread."""

    def __init__(self, outbox: Outbox, sampling_ratio: float, resource: Mapping[str, str]) -> None:
        from opentelemetry import trace
        from opentelemetry.context import Context, attach, set_value
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace import SpanContext, SpanKind, StatusCode, TraceFlags, TraceState

        from eagleray.base.span_sampler import WANTED, RequestSampler

        self.ratio = sampling_ratio
        self._outbox = outbox
        found = Resource.create({})
        named = {key: value for key, value in resource.items() if key != "service.name"}
        if str(found.attributes.get("service.name", "")).startswith("unknown_service"):
            named["service.name"] = resource["service.name"]
        self.provider = TracerProvider(
            sampler=RequestSampler(sampling_ratio),
            resource=found.merge(Resource(named)),
            shutdown_on_exit=False,
        )
        self.provider.add_span_processor(outbox)
        self._tracer = self.provider.get_tracer(_SCOPE)
        self._trace = trace
        self._attach = attach
        self._no_context = Context()
        self._root = set_value(WANTED, True, self._no_context)
        self._make = SpanContext, TraceFlags, TraceState
        self._kinds = SpanKind
        self._error = StatusCode.ERROR

    # ---- whether ---------------------------------------------------------------------------------------------

    def decide(self, context: str) -> str | None:
        """The context itself when its spans are recorded; "" for a new trace that is; None: nothing is.

        Who is told None passes on `context`, or `unsampled_context()` when that is empty.
        """
        if context:
            return context if is_sampled(context) else None
        return "" if random.random() < self.ratio else None

    # ---- spans -----------------------------------------------------------------------------------------------

    def begin(
        self,
        name: str,
        context: str,
        kind: str,
        attributes: Mapping[str, Any],
        links: Iterable[str] = (),
    ) -> Span:
        """A span below `context`, or the root of a trace that is recorded when that is empty; the caller ends it."""
        parent = self.parent(context) if context else self._root
        linked = [self._trace.Link(self._span_context(one)) for one in links]
        return self._tracer.start_span(name, parent, self._kinds[kind], dict(attributes), linked)

    def below(self, span: Span, name: str, kind: str, attributes: Mapping[str, Any]) -> Span:
        """A span below another one of this process."""
        parent = self._trace.set_span_in_context(span, self._no_context)
        return self._tracer.start_span(name, parent, self._kinds[kind], dict(attributes))

    def fail(self, span: Span) -> None:
        """What the span stands for has failed."""
        span.set_status(self._error)

    @staticmethod
    def text_of(span: Span) -> str:
        """The context for what is called below `span`."""
        context = span.get_span_context()
        text = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        return f"{text} {context.trace_state.to_header()}" if context.trace_state else text

    def _span_context(self, context: str) -> Any:
        span_context, flags, state = self._make
        return span_context(
            int(context[3:35], 16),
            int(context[36:52], 16),
            True,
            flags(int(context[53:55], 16)),
            state.from_header([context[56:]]) if len(context) > 55 else state(),
        )

    # ---- OpenTelemetry's own context -------------------------------------------------------------------------

    def parent(self, context: str) -> Context:
        """OpenTelemetry's context for a trace context as text."""
        span = self._trace.NonRecordingSpan(self._span_context(context))
        return self._trace.set_span_in_context(span, self._no_context)

    def enter(self, span: Span) -> None:
        """`span` is the current one in the present `contextvars.Context`, for the user's own spans."""
        self._attach(self._trace.set_span_in_context(span))

    def context_with(self, span: Span) -> Context:
        """OpenTelemetry's context in which `span` is the current one."""
        return self._trace.set_span_in_context(span, self._no_context)

    def current(self) -> Span | None:
        """The span in which the present code runs, as OpenTelemetry sees it: often one of the user's own."""
        span = self._trace.get_current_span()
        return span if span.get_span_context().is_valid else None

    def install(self) -> None:
        """Makes this the tracer of the process, for the user's own spans, unless user code has its own already."""
        self._trace.set_tracer_provider(self.provider)

    def close(self) -> None:
        """Exports what waits, within half a second. Idempotent."""
        self._outbox.close(_CLOSE_S)


def open_tracer(
    config: Mapping[str, Any],
    component: str,
    instance: str,
    directory: str,
    registry: Registry,
) -> Tracer | None:
    """The tracer of this process; None where tracing is off, or cannot be, which the log tells.

    `config` are the given fields of a TracingConfig; `directory` is that of the logs; what becomes of spans is counted
    in `registry`. Never raises: a service is worth more than its traces.
    """
    try:
        options = TracingOptions.read(config)
        if not options.enabled:
            return None
        require_opentelemetry()
        from eagleray.base.span_outbox import Outbox

        outbox = Outbox(_sink(options, component, instance, directory))
        named = {"service.name": component, "service.namespace": _SCOPE, "service.instance.id": instance}
        tracer = Tracer(outbox, options.sampling_ratio, named)
    except Exception as error:  # what a user's function raises, and whatever a foreign library does
        logger.error("Nothing is traced here: %s: %s", type(error).__name__, error)
        return None
    spans = registry.counter("eagleray_trace_spans", "Ended spans by what became of them.", "result")
    spans.read(lambda: outbox.exported, "exported")
    spans.read(lambda: outbox.dropped, "dropped")
    spans.read(lambda: outbox.failed, "failed")
    return tracer


def require_opentelemetry() -> None:
    """ConfigError unless it is installed."""
    try:
        found = find_spec("opentelemetry.sdk.trace")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ConfigError(
            "tracing needs OpenTelemetry, which is not installed in this environment: "
            "run `pip install 'eagleray[otel]'` there, or turn tracing off."
        )


def _sink(options: TracingOptions, component: str, instance: str, directory: str) -> Sink:
    from eagleray.base.span_file import SpanFile
    from eagleray.base.span_outbox import Exporting, Processing

    path = options.exporter_import_path
    if path in ("", FILE):
        name = "_".join((safe_name(component), safe_name(instance), "tracing.json"))
        return SpanFile(os.path.join(directory, "spans", name), options.rotate_bytes)
    if path == OTLP:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return Exporting(OTLPSpanExporter())
    return Processing(_load_processors(path, options.sys_path))


def _load_processors(path: str, sys_path: Iterable[str]) -> list[Any]:
    """What the user's function returns. TypeError unless it is a list of span processors."""
    from opentelemetry.sdk.trace import SpanProcessor

    for entry in reversed(list(sys_path)):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    module, _, name = path.replace(":", ".").rpartition(".")
    found = getattr(import_module(module), name)()
    if not isinstance(found, list) or not all(isinstance(one, SpanProcessor) for one in found):
        raise TypeError(
            f"exporter_import_path: {path} must return a list of opentelemetry.sdk.trace.SpanProcessor, "
            f"got {type(found).__name__}."
        )
    return found


def monotonic_to_wall_ns(seconds: float) -> int:
    """When something was, for a span's event."""
    return time.time_ns() - int((time.monotonic() - seconds) * 1e9)


def passed_on(context: str) -> str:
    """What a request that is not recorded hands to those below it."""
    return context or unsampled_context()
