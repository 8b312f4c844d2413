"""Surface 4: gRPC with a single application, and with a time-out of the proxy."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from tests.compat.grpc_server import SERVICER, Code, Echo, Server, failure
from tests.compat.impl import differs, free_port, running
from tests.compat.world import Journal


@pytest.fixture
def server(journal: Journal) -> Iterator[Server]:
    """One application, and a timeout."""
    port = free_port()
    options = {"port": port, "grpc_servicer_functions": [SERVICER], "request_timeout_s": 0.5}
    with running(grpc_options=options) as instance, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        found = Server(instance, channel)
        instance.run(Echo.bind(journal), name="main")
        found.answers("main")
        yield found


@differs("grpc-wrong-application")
def test_the_only_application_under_a_wrong_name(server: Server) -> None:
    assert server.say("x", app="")[0].text == "x"
    assert failure(lambda: server.say("x", app="wrong")).code() is Code.NOT_FOUND


def test_the_only_application_and_the_request_timeout(server: Server, journal: Journal) -> None:
    assert server.say("x", app="")[0].text == "x"
    error = failure(lambda: server.say("wait"))
    assert (error.code(), error.details()) == (Code.DEADLINE_EXCEEDED, "Request timed out after 0.5s.")
    journal.wait_for("cancelled")
