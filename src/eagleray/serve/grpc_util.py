"""What a deployment sees of an RPC: its context, and the stream of its requests. Names are Ray Serve's.

gRPC itself is not imported: status codes and compressions are whatever the user gives, or their numbers.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from eagleray.wire.messages import GrpcStatus
from eagleray.wire.remote_error import encodable

T = TypeVar("T")

Pair = tuple[str, str | bytes]

MAX_DETAILS = 4096
"""Characters of a status's details; trailers of more than about 8 KB are refused by clients."""

_KEY = re.compile(r"[0-9a-z_.-]+")


class RayServegRPCContext:
    """The context of one RPC, which a method gets that has a parameter `grpc_context`.

    What is set on it goes out with the answer; compression before the first message of a stream only. A copy in another
    deployment, by pickle, can be read but its settings go nowhere.
    """

    def __init__(
        self,
        *,
        request_id: str = "",
        application: str = "",
        multiplexed_model_id: str = "",
        invocation_metadata: Sequence[Pair] = (),
        peer: str = "",
    ) -> None:
        self._request_id = request_id
        self._application = application
        self._multiplexed_model_id = multiplexed_model_id
        self._invocation_metadata = invocation_metadata
        self._peer = peer
        self._code: Any = None
        self._details: str | None = None
        self._trailing_metadata: list[Pair] = []
        self._compression: Any = None

    # ---- the request -----------------------------------------------------------------------------------------

    def invocation_metadata(self) -> list[Pair]:
        """The metadata that the client sent, as (key, value); values of keys that end with `-bin` are bytes."""
        return list(self._invocation_metadata)

    def peer(self) -> str:
        """Who calls, in gRPC's notation: `ipv4:127.0.0.1:50012`."""
        return self._peer

    def auth_context(self) -> dict[str, Sequence[bytes]]:
        """Empty: gRPC is served without TLS."""
        return {}

    def peer_identities(self) -> Sequence[bytes] | None:
        """None: the peer is not authenticated."""
        return None

    def peer_identity_key(self) -> str | None:
        """None: the peer is not authenticated."""
        return None

    def request_id(self) -> str:
        """The id that the client gave as metadata `request_id`, or that was made for it."""
        return self._request_id

    def application(self) -> str:
        """The application that serves this RPC."""
        return self._application

    def multiplexed_model_id(self) -> str | None:
        """The model that the client asks for."""
        return self._multiplexed_model_id or None

    def traceparent(self) -> str | None:
        return self._value("traceparent")

    def tracestate(self) -> str | None:
        return self._value("tracestate")

    def _value(self, wanted: str) -> str | None:
        for key, value in self._invocation_metadata:
            if key == wanted and isinstance(value, str):
                return value
        return None

    # ---- the answer ------------------------------------------------------------------------------------------

    def code(self) -> Any:
        """What was set by `set_code`; None before."""
        return self._code

    def set_code(self, code: Any) -> None:
        """The RPC ends with this `grpc.StatusCode`, or number, also when the method then raises."""
        status_number(code)
        self._code = code

    def details(self) -> str | None:
        """What was set by `set_details`; None before."""
        return self._details

    def set_details(self, details: str) -> None:
        """The text beside the status code."""
        if not isinstance(details, str):
            raise TypeError(f"details must be a str, got {type(details).__name__}.")
        self._details = details

    def trailing_metadata(self) -> list[Pair]:
        """What was set by `set_trailing_metadata`, and the request id."""
        return [("request_id", self._request_id), *self._trailing_metadata]

    def set_trailing_metadata(self, trailing_metadata: Iterable[Pair]) -> None:
        """Metadata behind the answer, in place of what was set before; `request_id` is sent in any case.

        Raises TypeError or ValueError for what gRPC could not send.
        """
        self._trailing_metadata = [_checked(*pair) for pair in trailing_metadata if pair[0] != "request_id"]

    def set_compression(self, compression: Any) -> None:
        """The whole answer is sent with this `grpc.Compression`, or number."""
        if int(compression) not in (0, 1, 2):
            raise ValueError(f"compression must be one of grpc.Compression, got {compression!r}.")
        self._compression = compression

    def take_compression(self) -> int:
        """For the replica: the number of the compression, once; -1 when there is none to tell."""
        compression, self._compression = self._compression, None
        return -1 if compression is None else int(compression)

    def status(self) -> GrpcStatus | None:
        """For the replica: how the RPC is to end; None when nothing was set."""
        if (
            self._code is None
            and self._details is None
            and not self._trailing_metadata
            and self._compression is None
        ):
            return None
        return GrpcStatus(
            0 if self._code is None else status_number(self._code),
            encodable(self._details or "", MAX_DETAILS),
            self._trailing_metadata,
            -1 if self._compression is None else int(self._compression),
        )


def status_number(code: Any) -> int:
    """The number of a `grpc.StatusCode`, or the number itself. Raises TypeError for anything else."""
    value = getattr(code, "value", code)
    number = value[0] if isinstance(value, tuple) and value else value
    if not isinstance(number, int) or not 0 <= number <= 16:
        raise TypeError(f"a status code must be a grpc.StatusCode or its number, got {code!r}.")
    return int(number)


def _checked(key: Any, value: Any) -> Pair:
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ValueError(f"metadata key {key!r} is not legal: use lower-case letters, digits and _ . -")
    if key.startswith("grpc-"):
        raise ValueError(f"metadata key {key!r} is reserved by gRPC.")
    if key.endswith("-bin"):
        if not isinstance(value, bytes):
            raise TypeError(
                f"metadata '{key}' ends with -bin, so its value is bytes, not {type(value).__name__}."
            )
    elif not isinstance(value, str):
        raise TypeError(
            f"metadata '{key}' must be a str (bytes need a key that ends with -bin), got {value!r}."
        )
    elif not all(" " <= character <= "~" for character in value):
        raise ValueError(f"metadata '{key}' may hold printable ASCII only, got {value!r}.")
    return key, value


class _Fact(int):
    """A truth that may also be called: Ray Serve has `is_exhausted` as a property, its documents as a method."""

    def __call__(self) -> bool:
        return bool(self)


class gRPCInputStream(Generic[T]):  # noqa: N801, RUF100 - Ray Serve's name
    """The requests of a client stream: `async for request in stream`. Belongs to the replica's loop.

    A client is held back while its requests are not read. The stream ends with the client's, or by `cancel`.
    """

    def __init__(self, deserialize: Callable[[bytes], T], consumed: Callable[[int], None]) -> None:
        """`consumed` is told how many bytes are done with, so that more may come."""
        self._deserialize = deserialize
        self._consumed = consumed
        self._messages: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._ended = False
        self._cancelled = False
        self._exhausted = False

    def __aiter__(self) -> gRPCInputStream[T]:
        return self

    async def __anext__(self) -> T:
        """The next request. StopAsyncIteration at the end; what the parser raises for bytes that are no message."""
        while not self._messages:
            if self._cancelled or self._ended:
                self._exhausted = True
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        message = self._messages.popleft()
        self._consumed(len(message))
        return self._deserialize(message[1:])

    def is_cancelled(self) -> bool:
        """Whether the client has cancelled the RPC, or `cancel` was called."""
        return self._cancelled

    @property
    def is_exhausted(self) -> _Fact:
        """Whether the end of the requests has been read."""
        return _Fact(self._exhausted)

    def cancel(self) -> None:
        """Ends the stream here: nothing more is read, what the client still sends is dropped."""
        self._cancelled = True
        dropped, self._messages = self._messages, deque()
        self._consumed(sum(map(len, dropped)))
        self._changed.set()

    def feed(self, message: bytes, end: bool) -> None:
        """For the replica: one more request behind its first byte, or with `end` none."""
        if self._cancelled:
            self._consumed(len(message))
        elif message:
            self._messages.append(message)
        self._ended = self._ended or end
        self._changed.set()
