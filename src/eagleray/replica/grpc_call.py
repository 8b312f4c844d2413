"""An RPC in the replica: its request is parsed here, the method that its path names runs, the answer is a message.

It runs as a handle call does, in the same loop or thread and with the same cancellation; only what goes in and out is
different. Requests are parsed here and not in the proxy: they are strangers' bytes, and a parser that they break or
keep busy then costs one replica of one application, not the door of all. gRPC itself is not imported.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from types import AsyncGeneratorType, GeneratorType
from typing import Any

from eagleray.base.errors import (
    GRPC_STATUS,
    BackPressureError,
    DeploymentUnavailableError,
    EaglerayError,
    gRPCStatusError,
)
from eagleray.replica.call import NO_HEADERS, Floor
from eagleray.replica.callable import Method
from eagleray.replica.errors import trimmed
from eagleray.replica.python_call import PythonCall
from eagleray.serve.context import RequestContext
from eagleray.serve.grpc_util import MAX_DETAILS, RayServegRPCContext, gRPCInputStream, status_number
from eagleray.serve.servicers import Deserializer, deserializer_of
from eagleray.wire.messages import (
    GRPC_MESSAGE,
    STATUS_HEADER,
    USER,
    GrpcHead,
    GrpcStatus,
    Headers,
    encode_grpc_status,
)
from eagleray.wire.messages import GRPC_STATUS as STATUS_FOLLOWS
from eagleray.wire.remote_error import cause_of, encodable, safe_str
from eagleray.wire.streams import Incoming

logger = logging.getLogger("ray.serve")

_INTERNAL = 13
_UNIMPLEMENTED = 12


class RpcMethod(Method):
    """A method as RPCs call it. It is kept in `UserCode.known` under the path of its RPC."""

    __slots__ = ("deserialize", "takes_context")

    def __init__(self, method: Method, deserialize: Deserializer) -> None:
        for known in Method.__slots__:
            setattr(self, known, getattr(method, known))
        self.deserialize = deserialize
        self.takes_context = _has_parameter(method.function, "grpc_context")


class GrpcCall(PythonCall):
    """One RPC. `begin_work` once it has a slot."""

    __slots__ = ("grpc", "requests", "rpc_context")

    method: RpcMethod

    def __init__(self, floor: Floor, incoming: Incoming) -> None:
        super().__init__(floor, incoming)
        head = incoming.head
        self.grpc = grpc = head.grpc or GrpcHead()
        self.requests: gRPCInputStream[Any] | None = None
        self.rpc_context = RayServegRPCContext(
            request_id=head.request_id,
            application=head.app,
            multiplexed_model_id=head.multiplexed_model_id,
            invocation_metadata=grpc.metadata,
            peer=grpc.peer,
        )

    def begin_work(self) -> None:
        if not self.grpc.client_streaming:
            super().begin_work()
            return
        self.requests = gRPCInputStream(self._parse, self.incoming.consumed)
        self.incoming.on_data = self.requests.feed
        self.incoming.accept()
        self._dispatch(b"")

    def make_context(self, is_http: bool) -> RequestContext:
        context = super().make_context(is_http)
        context.grpc_context = self.rpc_context
        return context

    def cancel(self) -> None:
        if self.requests is not None:
            self.requests.cancel()
        super().cancel()

    # ---- what goes in ----------------------------------------------------------------------------------------

    def _look_up(self) -> Method:
        user, path = self.floor.user, self.incoming.head.method
        try:
            found = user.find(path.rpartition("/")[2])
        except EaglerayError as error:
            raise gRPCStatusError(None, _UNIMPLEMENTED, str(error)) from error
        name = self.grpc.deserializer
        method = user.known[path] = RpcMethod(found, deserializer_of(name) if name else bytes)
        return method

    def _load(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        method = self.method
        if not method.takes_arguments:
            return (), {}
        request = self._parse(bytes(self.body)) if self.requests is None else self.requests
        return (request,), {"grpc_context": self.rpc_context} if method.takes_context else {}

    def _parse(self, message: bytes) -> Any:
        try:
            return self.method.deserialize(message)
        except Exception as error:  # the parser is not ours, and raises what it likes
            # The words and the code of gRPC's own servers.
            details = (
                f"Exception deserializing request! {len(message)} bytes are no {self.grpc.deserializer}."
            )
            raise gRPCStatusError(error, _INTERNAL, details) from error

    # ---- what goes out ---------------------------------------------------------------------------------------

    def _give(self, result: Any) -> None:
        body = self._serialize(result)
        status = self.rpc_context.status()
        headers: Headers = NO_HEADERS if status is None else [(STATUS_HEADER, encode_grpc_status(status))]
        self.answer(0, headers, body)

    def _dump(self, item: Any) -> bytes:
        return GRPC_MESSAGE + self._serialize(item)

    def _stream_headers(self) -> Headers:
        compression = self.rpc_context.take_compression()
        if compression < 0:
            return NO_HEADERS
        return [(STATUS_HEADER, encode_grpc_status(GrpcStatus(compression=compression)))]

    def _serialize(self, item: Any) -> bytes:
        serialize = getattr(item, "SerializeToString", None)
        if serialize is None:
            raise TypeError(
                f"{self._where()} must answer with protobuf messages, which have `SerializeToString`, and not with "
                f"{type(item).__name__}."
            )
        message: bytes = serialize()
        return message

    def finish(self) -> None:
        status = self.rpc_context.status()
        if status is not None:
            assert self.outflow is not None
            self.outflow.push(STATUS_FOLLOWS + encode_grpc_status(status))
        super().finish()

    def _check_value(self, kind: type) -> None:
        if kind is GeneratorType or kind is AsyncGeneratorType:
            raise TypeError(
                f"{self._where()} returns a generator, but its RPC answers with a single message."
            )

    def _not_a_generator(self, kind: type) -> str:
        return f"{self._where()} returned {kind.__name__}, but its RPC streams: it must be a generator."

    def _where(self) -> str:
        return f"Method '{self.method.name}' of {self.floor.user.name}"

    def has_failed(self) -> bool:
        status = self.rpc_context.status()
        return self.status != 0 or (status is not None and status.code != 0)

    # ---- failures --------------------------------------------------------------------------------------------

    def failed(self, error: BaseException) -> None:
        """Answers for user code that has raised; never raises itself."""
        kind = type(error)
        if self.cancelled or issubclass(kind, asyncio.CancelledError):
            self.fail_cancelled()
            return
        request_id = self.incoming.head.request_id
        try:
            self.count_error(kind.__name__)
            status = encode_grpc_status(_status_of(error, self.rpc_context))
            if not isinstance(error, gRPCStatusError) or error.original_exception is not None:
                logger.error("Request %s has failed.", request_id, exc_info=trimmed(error))
        except BaseException as second:  # a user's exception may fail to say what it is
            details = f"{kind.__name__} was raised, and describing it: {type(second).__name__}"
            logger.error("Request %s has failed: %s", request_id, details)
            status = encode_grpc_status(GrpcStatus(_INTERNAL, details))
        if self.outflow is None:
            self.fail(USER, kind.__name__, status)
        else:  # behind the messages that are on their way
            self.status = _INTERNAL
            self.outflow.push(STATUS_FOLLOWS + status)
            super().finish()


def _status_of(error: BaseException, context: RayServegRPCContext) -> GrpcStatus:
    """What a client is told of an exception that user code lets escape; a code that it has set goes first."""
    status = context.status() or GrpcStatus()
    cause = cause_of(error)
    cause = cause if isinstance(cause, BaseException) else error
    code, details = _INTERNAL, safe_str(cause) or type(cause).__name__
    if isinstance(cause, gRPCStatusError):
        code = status_number(cause.grpc_code)
        details = cause.grpc_details or details
    elif isinstance(cause, BackPressureError | DeploymentUnavailableError):
        code, details = GRPC_STATUS[cause.code], cause.message
    status.code = status.code or code
    status.details = status.details or encodable(details, MAX_DETAILS)
    return status


def _has_parameter(function: Any, name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):  # written in C without a signature
        return False
