"""What the gRPC tests serve: one class that does what the request's text says, and says in a journal what it saw."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
from tests.compat.world import Journal
from tests.protos import echo_pb2

from eagleray import serve
from eagleray.base.errors import BackPressureError
from eagleray.serve.context import _get_serve_request_context

Note = echo_pb2.Note


class BrokenCause(Exception):
    @property
    def cause(self) -> object:
        raise RuntimeError("no cause")


class BrokenText(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class BrokenEverything(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


HOSTILE = {
    "surrogate": ValueError("\ud800 x"),
    "cause": BrokenCause("x"),
    "text": BrokenText("x"),
    "all": BrokenEverything("x"),
}


@serve.deployment(max_ongoing_requests=100)
class Echo:
    def __init__(self, journal: str, name: str = "echo") -> None:
        self.journal = Journal(journal)  # type: ignore[arg-type]
        self.name = name

    async def Say(self, request: Any, grpc_context: Any) -> Any:
        match request.text.partition(" ")[::2]:
            case "raise", text:
                raise ValueError(text)
            case "hostile", kind:
                raise HOSTILE[kind]
            case "surrogate", _:
                grpc_context.set_details("\ud800 x")
            case "code", text:
                grpc_context.set_code(grpc.StatusCode.FAILED_PRECONDITION)
                grpc_context.set_details("as set")
                if text:
                    raise ValueError(text)
            case "details", text:
                grpc_context.set_details(text)
            case "trail", text:
                grpc_context.set_trailing_metadata([("mine", text), ("mine-bin", b"\x00\xff")])
            case "compress", _:
                grpc_context.set_compression(grpc.Compression.Gzip)
            case "wrong", _:
                return {"text": "a dict"}
            case "busy", _:
                raise BackPressureError(3, 2)
            case "wait", _:
                await self._wait()
            case "pid", _:
                return Note(number=os.getpid())
            case "see", _:
                return Note(text=repr(_seen(grpc_context)))
            case "large", size:
                return Note(data=b"x" * int(size))
        return Note(text=f"{self.name}: {request.text}", number=len(request.data))

    def Count(self, request: Any) -> Iterator[Any]:
        number = 0
        try:
            for number in range(request.number):
                yield Note(number=number, data=request.data)
        finally:
            if request.text == "tell":
                self.journal.write(f"counted to {number}")
        if request.text == "raise":
            raise ValueError("after the last")
        if request.text in HOSTILE:
            raise HOSTILE[request.text]

    async def Join(self, requests: Any, grpc_context: Any) -> Any:
        texts: list[str] = []
        try:
            async for request in requests:
                if request.text == "stop":
                    requests.cancel()
                elif request.text == "enough":
                    break
                elif request.text == "journal":
                    self.journal.write("joining")
                else:
                    texts.append(request.text)
        except asyncio.CancelledError:
            self.journal.write(f"cancelled {requests.is_cancelled()}")
            raise
        self.journal.write(f"joined {len(texts)}")
        grpc_context.set_trailing_metadata([("exhausted", str(requests.is_exhausted()))])
        return Note(text=",".join(texts), number=len(texts))

    async def Chat(self, requests: Any, grpc_context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            if request.text == "raise":
                grpc_context.set_code(grpc.StatusCode.ABORTED)
                raise ValueError("in the middle")
            if request.text == "compress":
                grpc_context.set_compression(grpc.Compression.Gzip)
            yield Note(text=request.text.upper(), data=request.data)
        grpc_context.set_trailing_metadata([("said", "all")])

    async def Beats(self, request: Any) -> AsyncIterator[Any]:
        self.journal.write("beating")
        try:
            for _ in range(3):
                yield echo_pb2.Nothing()
            await self._wait()
        finally:
            self.journal.write("beats end")

    async def _wait(self) -> None:
        self.journal.write("waiting")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.journal.write("cancelled")
            raise


def _seen(grpc_context: Any) -> dict[str, Any]:
    request = _get_serve_request_context()
    return {
        "metadata": [pair for pair in grpc_context.invocation_metadata() if pair[0] != "user-agent"],
        "request_id": grpc_context.request_id(),
        "application": grpc_context.application(),
        "model": grpc_context.multiplexed_model_id(),
        "trace": (grpc_context.traceparent(), grpc_context.tracestate()),
        "peer": grpc_context.peer(),
        "identity": (grpc_context.peer_identities(), grpc_context.peer_identity_key()),
        "auth": grpc_context.auth_context(),
        "context": (request.request_id, request.session_id, request.multiplexed_model_id, request.app_name),
        "same": request.grpc_context is grpc_context,
    }


@serve.deployment
class Sync:
    """The same RPCs by sync methods, which run in threads."""

    def Say(self, request: Any) -> Any:
        return Note(text=f"sync: {request.text}")

    def Count(self, request: Any, grpc_context: Any) -> Iterator[Any]:
        grpc_context.set_trailing_metadata([("counted", str(request.number))])
        for number in range(request.number):
            yield Note(number=number)


@serve.deployment
async def function(request: Any) -> Any:
    return Note(text=f"function: {request.text}")
