"""Surface 4 and 1.11: gRPC; section 10 check 39."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.compat.grpc_server import (
    PING,
    SERVICER,
    TIMEOUT_S,
    Code,
    Echo,
    Note,
    Server,
    failure,
    gRPCOptions,
    serve_pb2,
)
from tests.compat.impl import ON_RAY, differs, free_port, running, serve
from tests.compat.world import Journal
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port = free_port()
    options = gRPCOptions(port=port, grpc_servicer_functions=[SERVICER])
    with running(grpc_options=options) as instance, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        found = Server(instance, channel)
        path = Path(tmp_path_factory.mktemp("grpc")) / "journal"
        instance.run(Echo.bind(Journal(path), ""), name="main")
        instance.run(Echo.bind(Journal(path), "other: "), name="other")
        found.answers("main")
        found.answers("other")
        yield found


@pytest.fixture
def to_main() -> dict[str, Any]:
    return {"metadata": [("application", "main")], "timeout": TIMEOUT_S}


def test_unary(server: Server) -> None:
    answer, call = server.say("hello")
    assert (answer, call.code()) == (Note(text="hello"), Code.OK)


def test_server_stream(server: Server, to_main: dict[str, Any]) -> None:
    assert [one.number for one in server.echo.Count(Note(number=4), **to_main)] == [0, 1, 2, 3]


def test_client_stream(server: Server, to_main: dict[str, Any]) -> None:
    assert server.echo.Join(iter([Note(text="a"), Note(text="b")]), **to_main).text == "a,b"


def test_both_streams(server: Server, to_main: dict[str, Any]) -> None:
    requests = iter([Note(text="a"), Note(text="b")])
    assert [one.text for one in server.echo.Chat(requests, **to_main)] == ["A", "B"]


def test_metadata_chooses_the_application(server: Server) -> None:
    assert server.say("x", app="main")[0].text == "x"
    assert server.say("x", app="other")[0].text == "other: x"


def test_an_unknown_application_is_not_found(server: Server) -> None:
    error = failure(lambda: server.say("x", app="nobody"))
    assert (error.code(), error.details()) == (Code.NOT_FOUND, f"Application 'nobody' not found. {PING}")


def test_of_several_applications_one_must_be_named(server: Server) -> None:
    error = failure(lambda: server.say("x", app=""))
    assert (error.code(), error.details()) == (Code.NOT_FOUND, f"Application metadata not set. {PING}")


def test_trailing_metadata_has_the_request_id_and_what_was_set(server: Server) -> None:
    _, call = server.say("x")
    assert dict(call.trailing_metadata())["request_id"]
    _, call = server.say("x", request_id="mine")
    assert dict(call.trailing_metadata()) == {"request_id": "mine", "answered": "yes"}


def test_the_context_can_be_pickled_and_says_what_was_sent(server: Server) -> None:
    text = server.say("context", request_id="mine")[0].text
    assert {"application", "request_id", "mine"} <= set(text.split())
    assert text.split()[-1] in ("ipv4", "ipv6")


def test_an_exception_is_internal(server: Server) -> None:
    error = failure(lambda: server.say("raise"))
    assert error.code() is Code.INTERNAL
    assert "it went wrong" in error.details()


def test_a_code_that_was_set_before_raising(server: Server) -> None:
    error = failure(lambda: server.say("code"))
    assert (error.code(), error.details()) == (Code.DATA_LOSS, "lost")


def test_an_answer_that_is_no_message_is_internal(server: Server) -> None:
    assert failure(lambda: server.say("wrong")).code() is Code.INTERNAL


def test_an_unknown_rpc_is_unimplemented(server: Server) -> None:
    call = server.channel.unary_unary("/tests.echo.Echo/Nothing")
    assert failure(lambda: call(b"", timeout=TIMEOUT_S)).code() is Code.UNIMPLEMENTED


def test_a_cancelled_rpc_cancels_the_method(server: Server, journal: Journal) -> None:
    server.instance.run(Echo.bind(journal), name="cancelled")
    server.answers("cancelled")
    call = server.echo.Say.future(Note(text="wait"), metadata=[("application", "cancelled")])
    journal.wait_for("waiting")
    call.cancel()
    journal.wait_for("cancelled")
    serve.delete("cancelled")


def test_a_full_queue_is_resource_exhausted(server: Server, journal: Journal) -> None:
    narrow = Echo.options(max_ongoing_requests=1, max_queued_requests=1)
    server.instance.run(narrow.bind(journal), name="narrow")
    server.answers("narrow")
    options = {"metadata": [("application", "narrow")], "timeout": TIMEOUT_S}
    calls = [server.echo.Say.future(Note(text="wait"), **options)]
    journal.wait_for("waiting")
    calls += [server.echo.Say.future(Note(text="wait"), **options) for _ in range(2)]
    refused = wait_until(lambda: [call for call in calls if call.done()], "a refusal")[0]
    assert refused.code() is Code.RESOURCE_EXHAUSTED
    assert refused.details().startswith("Request dropped due to backpressure")
    for call in calls:
        call.cancel()
    serve.delete("narrow")


def test_the_built_in_service(server: Server) -> None:
    assert server.api.Healthz(serve_pb2.HealthzRequest(), timeout=TIMEOUT_S).message == "success"
    assert {"main", "other"} <= set(server.listed())


def test_an_application_without_a_route_is_not_served(server: Server, journal: Journal) -> None:
    server.instance.run(Echo.bind(journal), name="inner", route_prefix=None)
    assert "inner" not in server.listed()
    assert failure(lambda: server.say("x", app="inner")).code() is Code.NOT_FOUND
    serve.delete("inner")


def test_reflection_describes_the_users_services(server: Server) -> None:
    from grpc_reflection.v1alpha import (  # real Ray has it with `serve-grpc` only
        reflection_pb2,
        reflection_pb2_grpc,
    )

    stub = reflection_pb2_grpc.ServerReflectionStub(server.channel)
    requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    answer = next(stub.ServerReflectionInfo(requests, timeout=TIMEOUT_S))
    names = {one.name for one in answer.list_services_response.service}
    assert "tests.echo.Echo" in names and "ray.serve.RayServeAPIService" not in names


def test_options_have_the_documented_defaults() -> None:
    options = gRPCOptions()
    assert (options.port, options.grpc_servicer_functions, options.enable_reflection) == (9000, [], True)
    assert options.request_timeout_s is None


@differs("grpc-missing-method")
def test_a_method_that_the_deployment_lacks(server: Server, to_main: dict[str, Any]) -> None:
    error = failure(lambda: server.echo.Unserved(Note(), **to_main))
    assert error.code() is Code.UNIMPLEMENTED


@differs("grpc-failed-request-id")
def test_a_failed_rpc_has_its_request_id(server: Server) -> None:
    error = failure(lambda: server.say("raise", request_id="mine"))
    assert dict(error.trailing_metadata())["request_id"] == "mine"


@differs("grpc-health")
def test_the_standard_health_service(server: Server) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # not installed with Ray

    answer = health_pb2_grpc.HealthStub(server.channel).Check(
        health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S
    )
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_servicer_function_that_cannot_be_imported() -> None:
    if ON_RAY:
        pytest.skip("Ray's proxy reports it in its log and by a time-out of a minute")
    with pytest.raises(ModuleNotFoundError):
        serve.start(grpc_options={"grpc_servicer_functions": ["no_such_module:add"]})
