"""The W3C trace context of a request as one text, which is read, passed on and told apart without any library.

The text is a valid `traceparent` of version 00, and its `tracestate` behind a blank where there is one; empty: none.
So it takes one field of a call's head, and costs nobody anything who has no use for it. What cannot be read is no
context: the request is served as if it had come without (W3C Trace Context, 3.2 and 4.3).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eagleray.base.settings import Settings

_SIZE = 55
"""Characters of a traceparent."""
_MOST_STATE = 512
"""Characters of a tracestate that are passed on."""
_MOST_MEMBERS = 32
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz")
_LETTERS_AND_DIGITS = _LETTERS | frozenset("0123456789")
_STATE_KEY = _LETTERS_AND_DIGITS | frozenset("_-*/")
_HEX = frozenset("0123456789abcdef")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


def read_context(traceparent: str, tracestate: str = "") -> str:
    """The context that the two headers give; "" unless the first one is valid. A bad second one is left out."""
    if len(traceparent) < _SIZE or traceparent[2] != "-" or traceparent[35] != "-" or traceparent[52] != "-":
        return ""
    version, trace, span = traceparent[:2], traceparent[3:35], traceparent[36:52]
    flags = traceparent[53:_SIZE]
    if version == "00":
        if len(traceparent) != _SIZE:
            return ""
    elif version == "ff" or (len(traceparent) > _SIZE and traceparent[_SIZE] != "-"):
        return ""
    if not _HEX.issuperset(version + trace + span + flags) or trace == _NO_TRACE or span == _NO_SPAN:
        return ""
    text = f"00-{trace}-{span}-{int(flags, 16) & 3:02x}"
    state = _read_state(tracestate) if tracestate else ""
    return f"{text} {state}" if state else text


def _read_state(header: str) -> str:
    """A tracestate in its shortest form; "" unless all of it is valid (3.3.1)."""
    if len(header) > _MOST_STATE or not header.isascii() or not header.replace("\t", " ").isprintable():
        return ""
    members: dict[str, str] = {}
    for one in header.split(","):
        member = one.strip(" \t")
        if not member:
            continue
        key, is_pair, value = member.partition("=")
        if not is_pair or not value or len(value) > 256 or "=" in value or "\t" in value:
            return ""
        if key in members or not _is_state_key(key):
            return ""
        members[key] = value
    return (
        ",".join([f"{key}={value}" for key, value in members.items()])
        if len(members) <= _MOST_MEMBERS
        else ""
    )


def _is_state_key(key: str) -> bool:
    tenant, is_split, system = key.partition("@")
    if not _STATE_KEY.issuperset(tenant) or not tenant:
        return False
    if not is_split:
        return tenant[0] in _LETTERS and len(tenant) <= 256
    if not system or not _STATE_KEY.issuperset(system) or system[0] not in _LETTERS:
        return False
    return tenant[0] in _LETTERS_AND_DIGITS and len(tenant) <= 241 and len(system) <= 14


def context_of(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The trace context that a client has sent; "" where there is none that can be read, or more than one."""
    parents = [value for name, value in headers if name == b"traceparent"]
    if len(parents) != 1:
        return ""
    states = b",".join([value for name, value in headers if name == b"tracestate"])
    return read_context(parents[0].decode("latin-1"), states.decode("latin-1"))


def context_of_metadata(metadata: Sequence[tuple[str, str | bytes]]) -> str:
    """As `context_of`, of gRPC's metadata."""
    parents = [value for name, value in metadata if name == "traceparent"]
    if len(parents) != 1 or not isinstance(parents[0], str):
        return ""
    states = [value for name, value in metadata if name == "tracestate" and isinstance(value, str)]
    return read_context(parents[0], ",".join(states))


def headers_of(context: str) -> list[tuple[bytes, bytes]]:
    """The HTTP headers that say `context`, which is not empty."""
    parent, _, state = context.partition(" ")
    headers = [(b"traceparent", parent.encode())]
    return [*headers, (b"tracestate", state.encode())] if state else headers


def is_sampled(context: str) -> bool:
    """Whether whoever began the trace wants it recorded. `context` is not empty."""
    return context[54] in "13"


def trace_id_of(context: str) -> str:
    """32 hexadecimal digits. `context` is not empty."""
    return context[3:35]


def unsampled_context() -> str:
    """A new trace that nobody records: who is called next need not decide again."""
    return f"00-{random.getrandbits(128) or 1:032x}-{random.getrandbits(64) or 1:016x}-00"


def server_timing(hops: Mapping[str, float]) -> bytes:
    """The value of a `Server-Timing` header: milliseconds by name of the hop."""
    return ", ".join(f"{name};dur={value:.3f}" for name, value in hops.items()).encode()


@dataclass(frozen=True)
class TracingOptions:
    """What a `TracingConfig` says, or, where it is silent, the environment."""

    enabled: bool = False
    exporter_import_path: str = ""
    sampling_ratio: float = 0.01
    sys_path: tuple[str, ...] = ()
    rotate_bytes: int = 64 * 2**20

    @classmethod
    def read(cls, config: Mapping[str, Any], settings: Settings | None = None) -> TracingOptions:
        """`config` has the fields of a TracingConfig that were given. ConfigError for a bad environment."""
        settings = settings or Settings.from_env()
        exporter = config.get("exporter_import_path")
        ratio = config.get("sampling_ratio")
        return cls(
            enabled=bool(config.get("enabled", settings.tracing_exporter)),
            exporter_import_path=str(settings.tracing_exporter if exporter is None else exporter),
            sampling_ratio=float(settings.tracing_sampling_ratio if ratio is None else ratio),
            sys_path=tuple(config.get("sys_path") or ()),
            rotate_bytes=settings.log_rotate_bytes,
        )
