"""How RPCs end: the table of statuses, trailing metadata, cancellation and deadlines."""

from __future__ import annotations

import ast
import select
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from tests.compat.world import Journal
from tests.integration.grpc_proxy.app import Echo, Note
from tests.integration.grpc_proxy.conftest import TIMEOUT_S, start
from tests.protos import echo_pb2, echo_pb2_grpc

from eagleray import serve

Code = grpc.StatusCode


def failure(call: Callable[[], object]) -> Any:
    """The error that `call` raises, with code, details and trailing metadata."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def said(echo: Any, text: str, **options: Any) -> Any:
    return failure(lambda: echo.Say(Note(text=text), timeout=TIMEOUT_S, **options))


# ---- statuses of user code --------------------------------------------------------------------------------


def test_an_exception_is_internal_with_its_text(echo: Any) -> None:
    error = said(echo, "raise something broke")
    assert (error.code(), error.details()) == (Code.INTERNAL, "something broke")


@pytest.mark.parametrize(
    ("kind", "details"),
    [
        ("surrogate", "\\ud800 x"),
        ("cause", "x"),
        ("text", "<BrokenText, whose __str__ raises SystemExit>"),
        ("all", "BrokenEverything was raised, and describing it: SystemExit"),
    ],
)
def test_an_exception_that_cannot_say_what_it_is_is_internal(echo: Any, kind: str, details: str) -> None:
    error = said(echo, f"hostile {kind}")
    assert (error.code(), error.details()) == (Code.INTERNAL, details)
    error = failure(lambda: list(echo.Count(Note(text=kind, number=2), timeout=TIMEOUT_S)))
    assert (error.code(), error.details()) == (Code.INTERNAL, details)


def test_details_with_lone_surrogates_are_escaped(echo: Any) -> None:
    answer = echo.Say(Note(text="surrogate"), timeout=TIMEOUT_S)
    assert answer.text == "echo: surrogate"


def test_the_text_of_an_exception_is_cut(echo: Any) -> None:
    error = said(echo, "raise " + "x" * 10_000)
    assert error.details() == "x" * 4096


def test_a_code_that_was_set_stays_when_the_method_raises(echo: Any) -> None:
    error = said(echo, "code something")
    assert (error.code(), error.details()) == (Code.FAILED_PRECONDITION, "as set")


def test_a_code_that_was_set_ends_the_rpc_without_an_exception(echo: Any) -> None:
    error = said(echo, "code")
    assert (error.code(), error.details()) == (Code.FAILED_PRECONDITION, "as set")


def test_ok_may_have_details(echo: Any) -> None:
    """They are sent, but gRPC's own client shows those of failures only."""
    answer, call = echo.Say.with_call(Note(text="details all went well"), timeout=TIMEOUT_S)
    assert (answer.text, call.code()) == ("echo: details all went well", Code.OK)


def test_an_answer_that_is_no_message_is_internal(echo: Any) -> None:
    error = said(echo, "wrong")
    assert error.code() is Code.INTERNAL
    assert "SerializeToString" in error.details() and "dict" in error.details()


def test_backpressure_that_escapes_is_resource_exhausted(echo: Any) -> None:
    error = said(echo, "busy")
    assert error.code() is Code.RESOURCE_EXHAUSTED
    assert error.details().startswith("Request dropped due to backpressure")


def test_a_method_that_the_deployment_lacks_is_unimplemented(echo: Any) -> None:
    error = failure(lambda: echo.Unserved(Note(), timeout=TIMEOUT_S))
    assert error.code() is Code.UNIMPLEMENTED
    assert "'Unserved'" in error.details() and "'Say'" in error.details()


def test_an_rpc_that_nobody_has_registered_is_unimplemented(port: int, echo: Any) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/tests.echo.Echo/Nothing")
        assert failure(lambda: call(b"", timeout=TIMEOUT_S)).code() is Code.UNIMPLEMENTED


def test_a_stream_that_raises_ends_behind_its_messages(echo: Any) -> None:
    answers = echo.Count(Note(number=3, text="raise"), timeout=TIMEOUT_S)
    assert [next(answers).number for _ in range(3)] == [0, 1, 2]
    error = failure(lambda: next(answers))
    assert (error.code(), error.details()) == (Code.INTERNAL, "after the last")
    assert dict(error.trailing_metadata())["request_id"]


def test_a_stream_may_set_its_code(echo: Any) -> None:
    answers = echo.Chat(iter([Note(text="a"), Note(text="raise"), Note(text="b")]), timeout=TIMEOUT_S)
    assert next(answers).text == "A"
    error = failure(lambda: next(answers))
    assert (error.code(), error.details()) == (Code.ABORTED, "in the middle")


# ---- metadata ----------------------------------------------------------------------------------------------


def test_the_request_id_is_in_the_trailing_metadata(echo: Any) -> None:
    _, call = echo.Say.with_call(Note(), timeout=TIMEOUT_S)
    made = dict(call.trailing_metadata())["request_id"]
    assert str(uuid.UUID(made)) == made
    _, call = echo.Say.with_call(Note(), metadata=[("request_id", "mine")], timeout=TIMEOUT_S)
    assert dict(call.trailing_metadata())["request_id"] == "mine"
    error = said(echo, "raise it", metadata=[("request_id", "failed")])
    assert dict(error.trailing_metadata())["request_id"] == "failed"


def test_users_set_trailing_metadata(echo: Any) -> None:
    _, call = echo.Say.with_call(Note(text="trail here"), metadata=[("request_id", "r")], timeout=TIMEOUT_S)
    assert [tuple(pair) for pair in call.trailing_metadata()] == [
        ("request_id", "r"),
        ("mine", "here"),
        ("mine-bin", b"\x00\xff"),
    ]


def test_the_context_says_what_the_client_sent(echo: Any) -> None:
    metadata = [
        ("request_id", "r1"),
        ("multiplexed_model_id", "m1"),
        ("session_id", "s1"),
        ("traceparent", "00-aa-bb-01"),
        ("tracestate", "vendor=1"),
        ("own-bin", b"\x01\x02"),
    ]
    seen = ast.literal_eval(echo.Say(Note(text="see"), metadata=metadata, timeout=TIMEOUT_S).text)
    assert seen.pop("peer").startswith("ipv4:127.0.0.1:")
    assert sorted(seen.pop("metadata")) == sorted(metadata)
    assert seen == {
        "request_id": "r1",
        "application": "main",
        "model": "m1",
        "trace": ("00-aa-bb-01", "vendor=1"),
        "identity": (None, None),
        "auth": {},
        "context": ("r1", "s1", "m1", "main"),
        "same": True,
    }


class Relay:
    """Passes one connection on to `port` and counts the bytes that come back."""

    def __init__(self, port: int) -> None:
        self.received = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._port = port
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        client, _ = self._server.accept()
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            ends = {client: server, server: client}
            while ends:
                for one in select.select(list(ends), [], [])[0]:
                    data = one.recv(65536)
                    if not data:
                        return
                    self.received += len(data) if one is server else 0
                    ends[one].sendall(data)

    def close(self) -> None:
        self._thread.join(TIMEOUT_S)
        self._server.close()


@pytest.mark.parametrize(("word", "least", "most"), [("compress", 0, 20_000), ("plain", 200_000, 300_000)])
@pytest.mark.parametrize("kind", ["unary", "stream"])
def test_answers_may_be_compressed(echo: Any, port: int, word: str, least: int, most: int, kind: str) -> None:
    """The client's library decompresses by itself, so bytes are counted on their way."""
    relay = Relay(port)
    with grpc.insecure_channel(f"127.0.0.1:{relay.port}") as channel:
        stub = echo_pb2_grpc.EchoStub(channel)
        if kind == "unary":
            text = f"{word} {'x' * 200_000}"
            assert stub.Say(Note(text=text), timeout=TIMEOUT_S).text == f"echo: {text}"
        else:
            answers = stub.Chat(iter([Note(text=word), Note(data=b"x" * 200_000)]), timeout=TIMEOUT_S)
            assert [len(answer.data) for answer in answers] == [0, 200_000]
    relay.close()
    assert least < relay.received < most


# ---- the end of a call before its answer -------------------------------------------------------------------


def test_a_cancelled_rpc_cancels_the_method(echo: Any, journal: Journal) -> None:
    before = journal.count("cancelled")
    call = echo.Say.future(Note(text="wait"), timeout=TIMEOUT_S)
    journal.wait_for("waiting", before + 1)
    call.cancel()
    journal.wait_for("cancelled", before + 1)


def test_the_clients_deadline_cancels_the_method(echo: Any, journal: Journal) -> None:
    before = journal.count("cancelled")
    error = failure(lambda: echo.Say(Note(text="wait"), timeout=0.3))
    assert error.code() is Code.DEADLINE_EXCEEDED
    journal.wait_for("cancelled", before + 1)


def test_a_cancelled_server_stream_ends_the_generator(echo: Any, journal: Journal) -> None:
    before = journal.count("beats end")
    beats = echo.Beats(echo_pb2.Nothing(), timeout=TIMEOUT_S)
    next(beats)
    beats.cancel()
    journal.wait_for("beats end", before + 1)


def test_a_client_stream_that_is_cut_off_never_looks_complete(echo: Any, journal: Journal) -> None:
    """Of a cancel grpc.aio says first that the requests have ended."""
    rounds = 50
    for number in range(1, rounds + 1):
        hold = threading.Event()

        def requests(hold: threading.Event = hold) -> Iterator[Any]:
            yield Note(text="journal")
            hold.wait(TIMEOUT_S)

        call = echo.Join.future(requests(), timeout=TIMEOUT_S)
        journal.wait_for("joining", number)
        call.cancel()
        hold.set()
    journal.wait_for("cancelled True", rounds)
    assert not [line for line in journal.lines() if line.startswith("joined")]


def test_request_timeout(tmp_path: Any) -> None:
    """An instance of its own, because the timeout is the proxy's."""
    serve.shutdown()
    port = start(request_timeout_s=0.5)
    journal = Journal(tmp_path / "journal")
    serve.run(Echo.bind(journal.path), name="main")
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = echo_pb2_grpc.EchoStub(channel)
            error = said(stub, "wait")
            assert (error.code(), error.details()) == (
                Code.DEADLINE_EXCEEDED,
                "Request timed out after 0.5s.",
            )
            assert dict(error.trailing_metadata())["request_id"]
            journal.wait_for("cancelled")
            beats = stub.Beats(echo_pb2.Nothing(), timeout=TIMEOUT_S)
            error = failure(lambda: list(beats))
            assert error.code() is Code.DEADLINE_EXCEEDED
            journal.wait_for("beats end")
            call = stub.Say.future(
                Note(text="wait"), metadata=[("x-request-timeout-seconds", "0")], timeout=TIMEOUT_S
            )
            journal.wait_for("waiting", 3)
            assert stub.Say(Note(), timeout=TIMEOUT_S)
            assert not call.done()
            call.cancel()
    finally:
        serve.shutdown()
