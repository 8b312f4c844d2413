"""What the compatibility scripts of gRPC share: a deployment, and clients of it."""

from __future__ import annotations

import asyncio
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.compat.impl import ON_RAY, Instance, module, serve
from tests.protos import echo_pb2, echo_pb2_grpc
from tests.waiting import wait_until

if ON_RAY:  # its workers do not know what this process has put on its path
    os.environ["PYTHONPATH"] += os.pathsep + str(Path(echo_pb2.__file__).parent)

gRPCOptions = module("config").gRPCOptions
serve_pb2 = module("generated.serve_pb2")
Stub = module("generated.serve_pb2_grpc").RayServeAPIServiceStub
Note = echo_pb2.Note
Code = grpc.StatusCode
TIMEOUT_S = 20.0
SERVICER = "echo_pb2_grpc:add_EchoServicer_to_server"
PING = "Ping /ray.serve.RayServeAPIService/ListApplications for available applications."


@serve.deployment(max_ongoing_requests=20)
class Echo:
    def __init__(self, journal: Any, name: str = "") -> None:
        self.journal = journal
        self.name = name

    async def Say(self, request: Any, grpc_context: Any) -> Any:
        if request.text == "raise":
            raise ValueError("it went wrong")
        if request.text == "code":
            grpc_context.set_code(Code.DATA_LOSS)
            grpc_context.set_details("lost")
            raise ValueError("it went wrong")
        if request.text == "wrong":
            return "no message"
        if request.text == "wait":
            self.journal.write("waiting")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.journal.write("cancelled")
                raise
        if request.text == "context":
            copy = pickle.loads(pickle.dumps(grpc_context))
            seen = [*dict(copy.invocation_metadata()), copy.request_id(), copy.peer().partition(":")[0]]
            return Note(text=" ".join(seen))
        grpc_context.set_trailing_metadata([("answered", "yes")])
        return Note(text=f"{self.name}{request.text}")

    async def Count(self, request: Any) -> Any:
        for number in range(request.number):
            yield Note(number=number)

    async def Join(self, requests: Any) -> Any:
        return Note(text=",".join([request.text async for request in requests]))

    async def Chat(self, requests: Any) -> Any:
        async for request in requests:
            yield Note(text=request.text.upper())


class Server:
    """An instance with gRPC, its channel and a stub of `Echo`."""

    def __init__(self, instance: Instance, channel: grpc.Channel) -> None:
        self.instance = instance
        self.channel = channel
        self.echo = echo_pb2_grpc.EchoStub(channel)
        self.api = Stub(channel)

    def say(self, text: str, app: str = "main", **metadata: str) -> Any:
        """Answer and call."""
        pairs = [*([("application", app)] if app else []), *metadata.items()]
        return self.echo.Say.with_call(Note(text=text), metadata=pairs, timeout=TIMEOUT_S)

    def listed(self) -> list[str]:
        answer = self.api.ListApplications(serve_pb2.ListApplicationsRequest(), timeout=TIMEOUT_S)
        return sorted(answer.application_names)

    def answers(self, app: str) -> bool:
        """Whether the proxy knows it; Ray's hears of a deploy a moment later."""
        return wait_until(lambda: app in self.listed(), f"{app} to be known to the gRPC proxy")


def failure(call: Callable[[], object]) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value
