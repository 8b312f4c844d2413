"""The outbox of spans: bounded, exported by a thread of its own, and honest about what is lost."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from eagleray.base.errors import ConfigError
from eagleray.base.metrics import Registry
from eagleray.base.settings import Settings
from eagleray.base.span_file import SpanFile
from eagleray.base.span_outbox import Outbox, Processing
from eagleray.base.spans import Tracer, open_tracer
from eagleray.base.tracing import TracingOptions, is_sampled, server_timing
from eagleray.engine.spawn import node_config


class Sink:
    """Keeps what it gets, once it may; raises as long as it is told to."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.may = threading.Event()
        self.may.set()
        self.error: Exception | None = None
        self.closed = False

    def started(self, span: Any, parent: Any) -> None:
        pass

    def export(self, spans: Sequence[ReadableSpan]) -> bool:
        self.may.wait(30)
        if self.error is not None:
            raise self.error
        self.spans += spans
        return True

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def sink() -> Sink:
    return Sink()


def tracer_of(sink: Any, most: int = 100) -> tuple[Tracer, Outbox]:
    outbox = Outbox(sink, most, interval_s=0.01)
    return Tracer(outbox, 1.0, {"service.name": "x"}), outbox


def end_some(tracer: Tracer, count: int) -> None:
    for _ in range(count):
        tracer.begin("work", "", "INTERNAL", {}).end()


def test_what_has_ended_is_exported_at_the_end_at_the_latest(sink: Sink) -> None:
    tracer, outbox = tracer_of(sink)
    end_some(tracer, 50)
    outbox.close(30)
    assert (len(sink.spans), outbox.exported, outbox.dropped, outbox.failed) == (50, 50, 0, 0)
    assert sink.closed
    end_some(tracer, 1)
    assert outbox.dropped == 1


def test_what_has_no_room_is_dropped_and_counted(sink: Sink) -> None:
    sink.may.clear()
    tracer, outbox = tracer_of(sink, most=10)
    end_some(tracer, 200)
    assert outbox.dropped >= 200 - 2 * 10
    sink.may.set()
    outbox.close(30)
    assert outbox.exported == len(sink.spans) == 200 - outbox.dropped


def test_an_exporter_that_raises_costs_its_batch_only(sink: Sink) -> None:
    sink.error = RuntimeError("no collector")
    tracer, outbox = tracer_of(sink)
    end_some(tracer, 5)
    outbox.close(30)
    assert (outbox.failed, outbox.exported) == (5, 0)


def test_an_outbox_that_was_never_used_has_no_thread(sink: Sink) -> None:
    before = threading.active_count()
    _, outbox = tracer_of(sink)
    assert threading.active_count() == before
    outbox.close(30)


def test_a_file_has_a_line_for_each_span_and_does_not_grow_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "spans" / "x_tracing.json"
    tracer, outbox = tracer_of(SpanFile(str(path), 100))
    span = tracer.begin("work", "", "INTERNAL", {"a": 1})
    span.end()
    outbox.close(30)
    (line,) = (tmp_path / "spans" / "x_tracing.json.1").read_text().splitlines()
    assert json.loads(line)["attributes"] == {"a": 1}
    assert not path.exists()


def test_a_line_is_what_opentelemetry_would_write(tmp_path: Path, sink: Sink) -> None:
    tracer, outbox = tracer_of(sink)
    links = [f"00-{'c' * 32}-{'d' * 16}-01"]
    span = tracer.begin(
        "work", f"00-{'a' * 32}-{'b' * 16}-01 v=1", "SERVER", {"a": 1, "b": "ü", "c": [1.5]}, links
    )
    span.add_event("sent", {"x": True}, timestamp=1)
    tracer.fail(span)
    span.end()
    end_some(tracer, 1)
    outbox.close(30)
    file = SpanFile(str(tmp_path / "spans" / "x.json"), 0)
    assert file.export(sink.spans)
    lines = (tmp_path / "spans" / "x.json").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(one.to_json()) for one in sink.spans]


class Slow(SpanProcessor):
    """A user's processor that works at the end of each span."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.started: list[str] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.started.append(span.name)

    def on_end(self, span: ReadableSpan) -> None:
        self.threads.add(threading.current_thread().name)


def test_processors_of_a_user_do_not_work_in_the_thread_of_requests() -> None:
    slow = Slow()
    tracer, outbox = tracer_of(Processing([slow]))
    end_some(tracer, 3)
    outbox.close(30)
    assert slow.threads == {"eagleray-spans"} and slow.started == ["work"] * 3


# ---- contexts ------------------------------------------------------------------------------------------------------


@pytest.fixture
def tracer(sink: Sink) -> Iterator[Tracer]:
    tracer, outbox = tracer_of(sink)
    yield tracer
    outbox.close(30)


def test_a_span_hands_its_trace_on(tracer: Tracer) -> None:
    parent = f"00-{'a' * 32}-{'b' * 16}-01 vendor=1"
    span = tracer.begin("work", parent, "SERVER", {})
    text = tracer.text_of(span)
    assert text.startswith(f"00-{'a' * 32}-") and text.endswith("-01 vendor=1") and text != parent
    below = tracer.text_of(tracer.below(span, "more", "CLIENT", {}))
    assert below.startswith(f"00-{'a' * 32}-") and below != text


def test_who_begins_a_trace_decides_for_all_below(tracer: Tracer) -> None:
    assert tracer.decide(f"00-{'a' * 32}-{'b' * 16}-00") is None
    context = f"00-{'a' * 32}-{'b' * 16}-01"
    assert tracer.decide(context) == context
    assert tracer.decide("") == ""
    tracer.ratio = 0.0
    assert tracer.decide("") is None
    assert tracer.decide(context) == context
    root = tracer.begin("work", "", "SERVER", {})
    assert is_sampled(tracer.text_of(root))


# ---- what is asked for -----------------------------------------------------------------------------------------------


def opened(tmp_path: Path, config: dict[str, Any]) -> Tracer | None:
    return open_tracer(config, "proxy", "id", str(tmp_path), Registry())


def processors() -> list[SpanProcessor]:
    return [Slow()]


def no_processors() -> Slow:
    return Slow()


def test_nothing_is_traced_unless_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert opened(tmp_path, {}) is None and opened(tmp_path, {"enabled": False}) is None
    assert caplog.records == []


def test_a_function_of_the_user_gives_processors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def config(name: str) -> dict[str, Any]:
        return {"enabled": True, "exporter_import_path": f"{__name__}:{name}"}

    assert opened(tmp_path, config("processors")) is not None
    assert opened(tmp_path, config("no_processors")) is None
    assert "TypeError" in caplog.text and "must return a list" in caplog.text
    assert opened(tmp_path, config("unknown")) is None


def test_the_environment_counts_where_the_config_is_silent() -> None:
    settings = Settings.from_env(
        {"RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH": "m:f", "RAY_SERVE_TRACING_SAMPLING_RATIO": "0.5"}
    )
    options = TracingOptions.read({}, settings)
    assert (options.enabled, options.exporter_import_path, options.sampling_ratio) == (True, "m:f", 0.5)
    options = TracingOptions.read({"enabled": False, "sampling_ratio": 0.1}, settings)
    assert (options.enabled, options.sampling_ratio) == (False, 0.1)
    assert not TracingOptions.read({}, Settings()).enabled
    assert TracingOptions.read({"enabled": True}, Settings()).sampling_ratio == 0.01


def test_server_timing_is_in_milliseconds() -> None:
    assert server_timing({"queue": 0.1234, "total": 5.0}) == b"queue;dur=0.123, total;dur=5.000"


def test_without_its_packages_it_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"pip install 'eagleray\[otel\]'"):
        node_config(tracing_config={"enabled": True})
    assert node_config(tracing_config={"enabled": False}).tracing_config == {"enabled": False}
