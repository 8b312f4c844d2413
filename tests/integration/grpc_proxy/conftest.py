"""One instance with gRPC for a module's tests, and clients of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.compat.world import Journal
from tests.integration.grpc_proxy.app import Echo
from tests.ports import free_port
from tests.protos import echo_pb2_grpc

from eagleray import serve

SERVICER = "echo_pb2_grpc:add_EchoServicer_to_server"
TIMEOUT_S = 20.0
ANY_SIZE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def start(**options: Any) -> int:
    """Starts an instance; returns the port of its gRPC proxy."""
    port = options.setdefault("port", free_port())
    serve.start(
        http_options={"port": free_port()}, grpc_options={"grpc_servicer_functions": [SERVICER], **options}
    )
    return int(port)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    yield start()
    serve.shutdown()


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Journal:
    return Journal(Path(tmp_path_factory.mktemp("journal")) / "journal")


@pytest.fixture(scope="module")
def echo(port: int, journal: Journal) -> Iterator[Any]:
    """A stub of `Echo`, the only application."""
    serve.run(Echo.bind(journal.path), name="main")
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=ANY_SIZE) as channel:
        yield echo_pb2_grpc.EchoStub(channel)
