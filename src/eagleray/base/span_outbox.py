"""Where ended spans wait to be exported: a bounded queue that a thread of its own empties, about once a second.

Whoever ends a span only appends to the queue. What does not fit, and what no exporter has taken, is counted and
dropped: a collector that is slow or away costs spans, never requests. An idle process has no thread that wakes up.

It must be made after the fork, and only where tracing is on: it needs OpenTelemetry (the extra `otel`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

logger = logging.getLogger("eagleray.tracing")

MOST_WAITING = 4096
"""Ended spans that wait at most; about 10 MB."""
_BATCH = 512
"""Spans that are exported at once."""
_INTERVAL_S = 1.0
"""Seconds that spans gather before they are exported, unless a batch is full."""
_TELL_S = 60.0
"""Seconds between two warnings."""


class Sink(Protocol):
    """Takes spans in the outbox's thread, may block there, and may raise anything."""

    def started(self, span: Span, parent: Context | None) -> None:
        """In the thread that begins the span."""

    def export(self, spans: Sequence[ReadableSpan]) -> bool:
        """Whether they were taken."""

    def close(self) -> None:
        """Nothing comes any more."""


class Exporting:
    """A sink that is an OpenTelemetry exporter."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def started(self, span: Span, parent: Context | None) -> None:
        """An exporter sees spans when they have ended."""

    def export(self, spans: Sequence[ReadableSpan]) -> bool:
        return self._exporter.export(spans) is SpanExportResult.SUCCESS

    def close(self) -> None:
        self._exporter.shutdown()


class Processing:
    """A sink that is made of a user's span processors: whatever they do at a span's end, no request waits for it."""

    def __init__(self, processors: Sequence[SpanProcessor]) -> None:
        self._processors = processors

    def started(self, span: Span, parent: Context | None) -> None:
        for one in self._processors:
            one.on_start(span, parent)

    def export(self, spans: Sequence[ReadableSpan]) -> bool:
        for span in spans:
            for one in self._processors:
                one.on_end(span)
        return True

    def close(self) -> None:
        for one in self._processors:
            one.shutdown()


class Outbox(SpanProcessor):
    """`exported`, `dropped` (there was no room) and `failed` (the sink has not taken them) count spans."""

    def __init__(self, sink: Sink, most: int = MOST_WAITING, interval_s: float = _INTERVAL_S) -> None:
        self._sink = sink
        self._most = most
        self._interval_s = interval_s
        self._waiting: deque[ReadableSpan] = deque()
        self._lock = threading.Lock()
        self._filled = threading.Event()
        self._due = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._told_at = -_TELL_S
        self.exported = self.dropped = self.failed = 0

    # ---- from any thread -------------------------------------------------------------------------------------

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._sink.started(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        waiting = self._waiting
        if self._closed or len(waiting) >= self._most:
            with self._lock:
                self.dropped += 1
            return
        waiting.append(span)
        if not self._filled.is_set():
            self._filled.set()
            if self._thread is None:
                self._start()
        if len(waiting) >= _BATCH and not self._due.is_set():
            self._due.set()

    def close(self, timeout_s: float) -> None:
        """Exports what waits, as far as that takes no longer; the rest is dropped. Idempotent."""
        self._closed = True
        self._filled.set()
        self._due.set()
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="eagleray-spans", daemon=True)
                self._thread.start()

    # ---- in its thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed:
            self._filled.wait()
            self._due.wait(self._interval_s)
            self._due.clear()
            self._filled.clear()
            self._empty()
        self._empty()
        try:
            self._sink.close()
        except Exception as error:  # a thread's root: exporters are foreign code
            logger.warning("The exporter of spans did not end in order: %r", error)

    def _empty(self) -> None:
        waiting = self._waiting
        while waiting:
            spans = [waiting.popleft() for _ in range(min(len(waiting), _BATCH))]
            problem = ""
            try:
                taken = self._sink.export(spans)
            except Exception as error:  # a thread's root: exporters are foreign code
                taken, problem = False, type(error).__name__
            if taken:
                self.exported += len(spans)
            else:
                self.failed += len(spans)
                self._tell(problem)

    def _tell(self, problem: str) -> None:
        now = time.monotonic()
        if now - self._told_at >= _TELL_S:
            self._told_at = now
            logger.warning(
                "Spans are being lost: the exporter has not taken them%s (%d so far, and %d for which there was no "
                "room). Look whether the collector can be reached; requests are not affected.",
                f" ({problem})" if problem else "",
                self.failed,
                self.dropped,
            )
