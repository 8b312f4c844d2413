"""Which application an RPC reaches, and the services that are there beside the users'."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.compat.world import Journal
from tests.integration.grpc_proxy.app import Echo, Note
from tests.integration.grpc_proxy.conftest import TIMEOUT_S
from tests.protos import echo_pb2_grpc
from tests.waiting import wait_until

from eagleray import serve
from eagleray.serve.generated.serve_pb2 import HealthzRequest, ListApplicationsRequest
from eagleray.serve.generated.serve_pb2_grpc import RayServeAPIServiceStub

Code = grpc.StatusCode
PING = "Ping /ray.serve.RayServeAPIService/ListApplications for available applications."
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def failure(call: Callable[[], object]) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


@pytest.fixture
def channel(port: int) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened


@pytest.fixture
def stub(channel: grpc.Channel) -> Any:
    return echo_pb2_grpc.EchoStub(channel)


def say(stub: Any, application: str | None = None, text: str = "") -> str:
    metadata = None if application is None else [("application", application)]
    return str(stub.Say(Note(text=text), metadata=metadata, timeout=TIMEOUT_S).text)


def listed(channel: grpc.Channel) -> list[str]:
    answer = RayServeAPIServiceStub(channel).ListApplications(ListApplicationsRequest(), timeout=TIMEOUT_S)
    return sorted(answer.application_names)


def test_before_any_application(channel: grpc.Channel, stub: Any) -> None:
    """Runs first: the route table is never unpopulated again."""
    built_in = RayServeAPIServiceStub(channel)
    for call in (
        lambda: built_in.Healthz(HealthzRequest(), timeout=TIMEOUT_S),
        lambda: listed(channel),
    ):
        error = failure(call)
        assert (error.code(), error.details()) == (Code.UNAVAILABLE, "Route table is not populated yet.")
    error = failure(lambda: say(stub))
    assert (error.code(), error.details()) == (Code.NOT_FOUND, f"Application metadata not set. {PING}")
    health = health_pb2_grpc.HealthStub(channel)
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S).status == NOT_SERVING


def test_one_application_needs_no_name(channel: grpc.Channel, stub: Any, journal: Journal) -> None:
    serve.run(Echo.bind(journal.path, "one"), name="one")
    assert say(stub) == say(stub, "one") == "one: "
    error = failure(lambda: say(stub, "two"))
    assert (error.code(), error.details()) == (Code.NOT_FOUND, f"Application 'two' not found. {PING}")
    assert dict(error.trailing_metadata())["request_id"]
    assert listed(channel) == ["one"]


def test_several_applications_need_names(channel: grpc.Channel, stub: Any, journal: Journal) -> None:
    serve.run(Echo.bind(journal.path, "one"), name="one", route_prefix="/one")
    serve.run(Echo.bind(journal.path, "two"), name="two", route_prefix="/two")
    assert [say(stub, name) for name in ("one", "two")] == ["one: ", "two: "]
    for metadata in (None, [("application", "")]):
        error = failure(lambda metadata=metadata: stub.Say(Note(), metadata=metadata, timeout=TIMEOUT_S))
        assert (error.code(), error.details()) == (Code.NOT_FOUND, f"Application metadata not set. {PING}")
    assert failure(lambda: say(stub, "ONE")).code() is Code.NOT_FOUND
    assert listed(channel) == ["one", "two"]
    for kind in ("Count", "Chat"):
        request = Note() if kind == "Count" else iter([Note()])
        answers = getattr(stub, kind)(request, metadata=[("application", "no")], timeout=TIMEOUT_S)
        assert failure(lambda answers=answers: list(answers)).code() is Code.NOT_FOUND
    serve.delete("two")
    assert failure(lambda: say(stub, "two")).code() is Code.NOT_FOUND, "and not an answer of 'one'"
    assert listed(channel) == ["one"]


def test_an_application_without_a_route_is_not_reached(
    channel: grpc.Channel, stub: Any, journal: Journal
) -> None:
    serve.run(Echo.bind(journal.path), name="inner", route_prefix=None)
    assert failure(lambda: say(stub, "inner")).code() is Code.NOT_FOUND
    assert "inner" not in listed(channel)
    serve.delete("inner")


def test_an_application_that_failed_is_unavailable(stub: Any) -> None:
    @serve.deployment(max_constructor_retry_count=1)
    class Broken:
        def __init__(self) -> None:
            raise ValueError("no")

    with pytest.raises(RuntimeError):
        serve.run(Broken.bind(), name="broken", route_prefix="/broken")
    error = failure(lambda: say(stub, "broken"))
    assert error.code() is Code.UNAVAILABLE
    assert error.details() == (
        "Deployment(name='Broken', app='broken') is unavailable because it failed to deploy."
    )
    serve.delete("broken")


def test_a_full_queue_is_resource_exhausted(stub: Any, journal: Journal) -> None:
    narrow = Echo.options(
        max_ongoing_requests=1,
        max_queued_requests=1,
        backpressure_config={"status_code": 429, "retry_after_s": 7},
    )
    serve.run(narrow.bind(journal.path), name="narrow", route_prefix="/narrow")
    to = {"metadata": [("application", "narrow")], "timeout": TIMEOUT_S}
    before = journal.count("waiting")
    calls = [stub.Say.future(Note(text="wait"), **to) for _ in range(3)]
    journal.wait_for("waiting", before + 1)
    refused = wait_until(lambda: [call for call in calls if call.done()], "one of three to be refused")
    assert len(refused) == 1
    assert refused[0].code() is Code.RESOURCE_EXHAUSTED
    assert refused[0].details() == (
        "Request dropped due to backpressure (num_queued_requests=1, max_queued_requests=1)."
    )
    assert dict(refused[0].trailing_metadata())["retry-after"] == "7"
    for call in calls:
        call.cancel()
    journal.wait_for("cancelled", before + 1)
    serve.delete("narrow")


def test_healthz(channel: grpc.Channel) -> None:
    answer = RayServeAPIServiceStub(channel).Healthz(HealthzRequest(), timeout=TIMEOUT_S)
    assert answer.message == "success"


@pytest.mark.parametrize("service", ["", "tests.echo.Echo"])
def test_standard_health(channel: grpc.Channel, service: str) -> None:
    request = health_pb2.HealthCheckRequest(service=service)
    assert health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_S).status == SERVING
    watching = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=TIMEOUT_S)
    assert next(watching).status == SERVING
    watching.cancel()


def test_health_of_all_services(channel: grpc.Channel) -> None:
    answer = health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest(), timeout=TIMEOUT_S)
    assert {name: one.status for name, one in answer.statuses.items()} == {
        "": SERVING,
        "tests.echo.Echo": SERVING,
    }


def test_health_of_an_unknown_service(channel: grpc.Channel) -> None:
    request = health_pb2.HealthCheckRequest(service="no.Such")
    error = failure(lambda: health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_S))
    assert error.code() is Code.NOT_FOUND


def reflect(channel: grpc.Channel, **request: Any) -> Any:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    requests = iter([reflection_pb2.ServerReflectionRequest(**request)])
    return next(stub.ServerReflectionInfo(requests, timeout=TIMEOUT_S))


def test_reflection_shows_the_users_services(channel: grpc.Channel) -> None:
    names = {one.name for one in reflect(channel, list_services="").list_services_response.service}
    assert names == {
        "tests.echo.Echo",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    described = reflect(channel, file_containing_symbol="tests.echo.Echo").file_descriptor_response
    assert b"tests.echo" in described.file_descriptor_proto[0]


def test_a_drain_tells_those_who_watch_and_does_not_wait_for_them(channel: grpc.Channel) -> None:
    """Runs last. A client that watches, as load balancers do, must not hold the shutdown up for its 20 s."""
    watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    assert next(watching).status == SERVING
    serve.shutdown()
    assert [one.status for one in watching] == [NOT_SERVING]
    assert watching.code() is Code.OK, "and not DEADLINE_EXCEEDED"
