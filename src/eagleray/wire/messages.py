"""Heads of the frames that open, answer and fail a call; bodies travel behind them as raw bytes.

All heads are msgpack arrays (msgspec `array_like`), so that a field costs one byte of framing. New fields go to
the end with a default: older peers ignore what they do not know.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import msgspec

Headers = list[tuple[bytes, bytes]]
"""HTTP headers in wire order, names in lower case."""

Metadata = list[tuple[str, Any]]
"""gRPC metadata in wire order; values are str, those of keys that end with `-bin` bytes."""


class CallKind(IntEnum):
    """What the body of a call is, and who answers it."""

    PYTHON = 0
    """Body: `codec.dump_call(args, kwargs)`. The reply's body: `codec.dump_value(result)`."""
    HTTP = 1
    """Body: the HTTP request body (raw). The reply has a status and headers, its body is raw."""
    CONTROL = 2
    """`method` is a control-plane method; body and reply body are msgspec structs of `wire.control`."""
    GRPC = 3
    """`method` is the path of an RPC, the body its request as it came (raw). See `GrpcHead` and `GrpcStatus`."""
    DESCRIBE = 4
    """Asks an ingress for its OpenAPI document; `method` is the path that it is served at. Answered as HTTP."""
    WEBSOCKET = 5
    """A WebSocket handshake. A reply with status 101 accepts it: DATA of both directions are then records of
    `wire.websocket`. Any other reply refuses it, as HTTP."""


class HttpHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The request line and headers, ready to become an ASGI scope. `path` is percent-decoded text."""

    method: str
    path: str
    raw_path: bytes
    query_string: bytes
    headers: Headers
    http_version: str = "1.1"
    scheme: str = "http"
    root_path: str = ""
    client: tuple[str, int] | None = None
    server: tuple[str, int] | None = None


class GrpcHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a gRPC call needs besides. `deserializer` names the function that parses its requests; empty: none does.

    With `client_streaming` the CALL has no body, and each DATA message is one request behind a byte `GRPC_MESSAGE`.
    """

    deserializer: str = ""
    client_streaming: bool = False
    metadata: Metadata = []
    peer: str = ""


class GrpcStatus(msgspec.Struct, array_like=True, gc=False):
    """How an RPC ends, where that is not a mere OK. `compression` is a number of grpc.Compression, -1: not set.

    A unary answer has it as its only header, an ERROR of code `user` as its body, a stream as its last message behind
    a byte `GRPC_STATUS`: metadata then comes behind what is still queued, and messages may be empty. A stream's
    compression is in the header of its beginning.
    """

    code: int = 0
    details: str = ""
    trailing: Metadata = []
    compression: int = -1


STATUS_HEADER = b":grpc-status"
GRPC_MESSAGE, GRPC_STATUS = b"\0", b"\1"
"""First byte of a message in a gRPC stream."""


class CallHead(msgspec.Struct, array_like=True, gc=False):
    """Opens a call. `deadline` is CLOCK_MONOTONIC seconds, 0 for none. An empty `method` means `__call__`.

    `traceparent` has its tracestate behind it (`base.tracing`). `size` is that of a body that is complete and comes in
    more than one frame; the session sets it.
    """

    kind: int
    method: str = ""
    request_id: str = ""
    deadline: float = 0.0
    app: str = ""
    route: str = ""
    stream: bool = False
    multiplexed_model_id: str = ""
    session_id: str = ""
    traceparent: str = ""
    http: HttpHead | None = None
    grpc: GrpcHead | None = None
    size: int = 0


class ReplyHead(msgspec.Struct, array_like=True, gc=False):
    """Answers a call. `load` is the number of calls that the replica now runs; status and headers are HTTP's.

    `size` is that of a body that comes in more than one frame; the session sets it. `took_us`: microseconds in user
    code until this answer. `route`: the pattern that an ASGI application has matched, below its route prefix.
    """

    load: int = 0
    status: int = 0
    headers: Headers = []
    size: int = 0
    took_us: int = 0
    route: str = ""


class ErrorHead(msgspec.Struct, array_like=True, gc=False):
    """Ends a call without a result.

    `code` is one of `base.errors` codes, or `rejected` (replica is full: try elsewhere), `draining` (the same, and
    it will not take calls again), `user` (body: `codec.dump_error(exception)`).
    """

    code: str
    message: str = ""
    load: int = 0


class ReplicaReport(msgspec.Struct, array_like=True, gc=False):
    """What a replica says of itself, to every caller, when it changes: the body of a REPORT frame.

    `models` are loaded or loading, most recently used last; None when it doesn't multiplex. `free_places` is the number
    of models that can be loaded without unloading one, -1 for any. The rest is what the user's hooks have returned.
    """

    models: list[str] | None = None
    free_places: int = -1
    routing_stats: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


REJECTED = "rejected"
DRAINING = "draining"
USER = "user"

encode_call = msgspec.msgpack.Encoder().encode
decode_call = msgspec.msgpack.Decoder(CallHead).decode
decode_reply = msgspec.msgpack.Decoder(ReplyHead).decode
decode_error = msgspec.msgpack.Decoder(ErrorHead).decode
encode_grpc_status = msgspec.msgpack.Encoder().encode
decode_grpc_status = msgspec.msgpack.Decoder(GrpcStatus).decode
encode_report = msgspec.msgpack.Encoder().encode
decode_report = msgspec.msgpack.Decoder(ReplicaReport).decode
