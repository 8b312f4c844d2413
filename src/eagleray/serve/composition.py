"""Calls whose arguments are responses of other calls: they wait for these, then go out with the values in place.

The value is not decoded on the way: its bytes are wrapped in a `Forwarded`, which turns into the value where the
arguments are unpickled. So a caller may pass on objects whose classes it cannot even import.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from eagleray.serve.context import RequestContext
from eagleray.serve.response import (
    BODY,
    ERROR,
    PENDING,
    REMOTE_ERROR,
    DeploymentResponse,
    DeploymentResponseGenerator,
    HandleCall,
    StreamCall,
)
from eagleray.serve.runtime import Runtime
from eagleray.wire import codec
from eagleray.wire.messages import CallHead


class Forwarded:
    """Encoded bytes of a value, which unpickle as the value itself."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __reduce__(self) -> tuple[Any, ...]:
        return codec.load_value, (self._body,)


def find_responses(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[HandleCall]:
    """The calls behind the responses among the arguments. RuntimeError for a generator, which has no one value."""
    found = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, DeploymentResponse):
            found.append(value._call)
        elif isinstance(value, DeploymentResponseGenerator):
            raise RuntimeError(
                "A DeploymentResponseGenerator cannot be passed to another deployment: iterate over it and pass items."
            )
    return found


class _Composed(HandleCall):
    """The waiting; mixed into both kinds of call. Everything here runs on the runtime's loop."""

    __slots__ = ()
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    upstream: list[HandleCall]

    def begin(self) -> None:
        if not self._adopt():
            return
        for call in self.upstream:
            call.add_waiter(partial(self.runtime.post, self._look))

    def _look(self) -> None:
        if self.outcome != PENDING or not self.upstream:
            return
        for call in self.upstream:
            if call.outcome in (ERROR, REMOTE_ERROR):
                self.settle(call.outcome, call.payload)
                return
        if any(call.outcome == PENDING for call in self.upstream):
            return
        self.upstream = []
        try:
            self.body = codec.dump_call(
                tuple(_valued(value) for value in self.args),
                {name: _valued(value) for name, value in self.kwargs.items()},
            )
        except Exception as error:  # whatever a user's __reduce__ raises belongs to whoever waits for this call
            self.settle(ERROR, error)
            return
        self.args, self.kwargs = (), {}
        self.runtime.submit_here(self)


class ComposedCall(_Composed):
    """A call with one result."""

    __slots__ = ("args", "kwargs", "upstream")

    def __init__(
        self,
        runtime: Runtime,
        key: str,
        head: CallHead,
        parent: RequestContext,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:
        super().__init__(runtime, key, head, b"", parent)
        self.args, self.kwargs = args, kwargs
        self.upstream = find_responses(args, kwargs)


class ComposedStream(_Composed, StreamCall):
    """A call with a stream of results."""

    __slots__ = ("args", "kwargs", "upstream")

    def __init__(
        self,
        runtime: Runtime,
        key: str,
        head: CallHead,
        parent: RequestContext,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:
        super().__init__(runtime, key, head, b"", parent)
        self.args, self.kwargs = args, kwargs
        self.upstream = find_responses(args, kwargs)


def _valued(value: Any) -> Any:
    if not isinstance(value, DeploymentResponse):
        return value
    call = value._call
    return Forwarded(call.payload) if call.outcome == BODY else call.read()


__all__ = ["ComposedCall", "ComposedStream", "find_responses"]
