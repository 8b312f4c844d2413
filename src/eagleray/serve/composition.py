"""Calls whose arguments are responses of other calls: they wait for these, then go out with the values in place.

The value is not decoded on the way: its bytes are wrapped in a `Forwarded`, which turns into the value where the
arguments are unpickled. So a caller may pass on objects whose classes it cannot even import. Large parts of it stay
beside the pickle stream and are copied once, like those of any argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from time import monotonic
from typing import Any

from eagleray.serve.response import (
    BODY,
    ERROR,
    PENDING,
    REMOTE_ERROR,
    DeploymentResponse,
    DeploymentResponseGenerator,
    HandleCall,
)
from eagleray.wire import codec
from eagleray.wire.frames import Buffer


class Forwarded:
    """Encoded bytes of a value, which unpickle as the value itself."""

    __slots__ = ("_body",)

    def __init__(self, body: Buffer) -> None:
        self._body = body

    def __reduce__(self) -> tuple[Any, ...]:
        return codec.load_value, codec.forward(self._body)


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


class Composition:
    """Holds a call back until the responses among its arguments have values. `begin` and the rest run on its loop."""

    __slots__ = ("_args", "_begun_at", "_call", "_kwargs", "_upstream")

    def __init__(self, call: HandleCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._call = call
        self._args = args
        self._kwargs = kwargs
        self._upstream = find_responses(args, kwargs)
        self._begun_at = monotonic()

    def begin(self) -> None:
        call = self._call
        if call.adopt():
            for upstream in self._upstream:
                upstream.add_waiter(partial(call.runtime.post, self._look))

    def _look(self) -> None:
        call = self._call
        if call.outcome != PENDING or not self._upstream:
            return
        for upstream in self._upstream:
            if upstream.outcome in (ERROR, REMOTE_ERROR):
                call.settle(upstream.outcome, upstream.payload)
                return
        if any(upstream.outcome == PENDING for upstream in self._upstream):
            return
        self._upstream = []
        try:
            call.body = codec.dump_call(
                tuple(_valued(value) for value in self._args),
                {name: _valued(value) for name, value in self._kwargs.items()},
                call.runtime.take,
            )
        except Exception as error:  # what a user's __reduce__ raises belongs to whoever waits for this call
            call.settle(ERROR, error)
        else:
            call.submit()
            call.runtime.resolved(call.key, monotonic() - self._begun_at)


def _valued(value: Any) -> Any:
    if not isinstance(value, DeploymentResponse):
        return value
    call = value._call
    return Forwarded(call.payload) if call.outcome == BODY else call.read()
