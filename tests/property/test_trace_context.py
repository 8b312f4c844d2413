"""Whatever clients send as their trace context is read or is none; nothing of it gets through that is not valid."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import TraceState

from eagleray.base.tracing import (
    context_of,
    context_of_metadata,
    headers_of,
    is_sampled,
    read_context,
    trace_id_of,
    unsampled_context,
)

VALID = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[0-3]( [ -~]{1,512})?")

hexes = st.text("0123456789abcdef", min_size=1)
near = st.tuples(
    st.sampled_from(["00", "01", "cc", "ff", "0", "FF", "0x"]),
    st.sampled_from(["-", "_", ""]),
    st.one_of(st.text("0123456789abcdefAg", min_size=30, max_size=34), st.just("0" * 32)),
    st.one_of(st.text("0123456789abcdefAg", min_size=15, max_size=17), st.just("0" * 16)),
    st.sampled_from(["00", "01", "02", "03", "ff", "1", "0g"]),
    st.sampled_from(["", "-", "-more", "more", " "]),
).map(lambda parts: f"{parts[0]}{parts[1]}{parts[2]}-{parts[3]}-{parts[4]}{parts[5]}")
headers = st.one_of(st.binary(max_size=120), near.map(str.encode))


@given(st.one_of(st.text(max_size=120), near), st.text(max_size=600))
def test_what_is_read_is_valid(traceparent: str, tracestate: str) -> None:
    context = read_context(traceparent, tracestate)
    assert context == "" or VALID.fullmatch(context)
    if context:
        assert trace_id_of(context) == traceparent[3:35]
        assert context_of(headers_of(context)) == context


@given(st.lists(st.tuples(st.sampled_from([b"traceparent", b"tracestate", b"other"]), headers), max_size=4))
def test_no_header_does_harm(sent: list[tuple[bytes, bytes]]) -> None:
    context = context_of(sent)
    assert context == "" or VALID.fullmatch(context)
    pairs = [(name.decode(), value.decode("latin-1")) for name, value in sent]
    assert context_of_metadata(pairs) == context


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_what_is_valid_is_read(trace: int, span: int, flags: int) -> None:
    context = read_context(f"00-{trace:032x}-{span:016x}-{flags:02x}")
    assert context.startswith(f"00-{trace:032x}-{span:016x}-")
    assert is_sampled(context) == bool(flags & 1)
    assert read_context(context) == context
    later = f"cc-{trace:032x}-{span:016x}-{flags:02x}-what-comes-later"
    assert read_context(later) == context


state = st.one_of(
    st.text(max_size=600),
    st.lists(
        st.tuples(
            st.text("ab1_-*/@A", max_size=20),
            st.sampled_from(["=", "=", "=", "", "=="]),
            st.text("x1 ~!,=\t\né", max_size=260),
        ).map("".join),
        max_size=40,
    ).map(",".join),
)
LIKELY = st.lists(st.tuples(st.text("ab1@_", min_size=1, max_size=5), st.text("x1 ", min_size=1)), max_size=5)


@given(st.one_of(state, LIKELY.map(lambda pairs: " ,".join(f"{key}={value}" for key, value in pairs))))
def test_a_state_is_passed_on_if_opentelemetry_takes_it(sent: str) -> None:
    """What it does not take it would write into a log, at a stranger's wish."""
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    ours = read_context(parent, sent)[len(parent) + 1 :]
    theirs = TraceState.from_header([sent])
    if ours:
        assert TraceState.from_header([ours]).to_header() == theirs.to_header() == ours
    else:
        assert not theirs or len(sent) > 512


def test_a_new_trace_that_nobody_records_says_so() -> None:
    context = unsampled_context()
    assert read_context(context) == context and not is_sampled(context)
