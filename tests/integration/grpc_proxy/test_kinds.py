"""The four kinds of RPC through proxy and replica, by async and sync methods, of any size."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from tests.compat.world import Journal
from tests.integration.grpc_proxy.app import Note, Sync, function
from tests.integration.grpc_proxy.conftest import TIMEOUT_S
from tests.protos import echo_pb2, echo_pb2_grpc

from eagleray import serve


def notes(*texts: str) -> Iterator[Any]:
    return iter([Note(text=text) for text in texts])


def test_unary(echo: Any) -> None:
    assert echo.Say(Note(text="hello"), timeout=TIMEOUT_S) == Note(text="echo: hello")


@pytest.mark.parametrize("size", [0, 1, 300_000, 5_000_000])
def test_unary_of_any_size(echo: Any, size: int) -> None:
    assert echo.Say(Note(data=b"y" * size), timeout=TIMEOUT_S).number == size
    assert len(echo.Say(Note(text=f"large {size}"), timeout=TIMEOUT_S).data) == size


def test_server_stream(echo: Any) -> None:
    answers = echo.Count(Note(number=1000), timeout=TIMEOUT_S)
    assert [answer.number for answer in answers] == list(range(1000))
    assert list(echo.Count(Note(number=0), timeout=TIMEOUT_S)) == []


def test_empty_messages_are_messages(echo: Any, journal: Journal) -> None:
    beats = echo.Beats(echo_pb2.Nothing(), timeout=TIMEOUT_S)
    assert [next(beats) for _ in range(3)] == [echo_pb2.Nothing()] * 3
    beats.cancel()
    journal.wait_for("beats end")
    assert echo.Join(iter([Note(), Note()]), timeout=TIMEOUT_S).number == 2


def test_client_stream(echo: Any) -> None:
    answer, call = echo.Join.with_call(notes("a", "b", "c"), timeout=TIMEOUT_S)
    assert answer == Note(text="a,b,c", number=3)
    assert ("exhausted", "True") in call.trailing_metadata()


def test_a_client_stream_may_be_left_early(echo: Any) -> None:
    for word in ("stop", "enough"):
        answer = echo.Join(notes("a", word, *"bcdefgh"), timeout=TIMEOUT_S)
        assert answer.text == "a"


def test_client_stream_of_large_messages(echo: Any) -> None:
    large = (Note(text="x" * 3_000_000) for _ in range(4))
    assert echo.Join(large, timeout=TIMEOUT_S).text.count("x") == 12_000_000


def test_both_streams_alternate(echo: Any) -> None:
    """Each answer is there before the next request is made."""
    sent: queue.SimpleQueue[Any] = queue.SimpleQueue()
    answers = echo.Chat(iter(sent.get, None), timeout=TIMEOUT_S)
    for text in ("one", "two", "three"):
        sent.put(Note(text=text))
        assert next(answers).text == text.upper()
    sent.put(None)
    assert list(answers) == []
    assert ("said", "all") in answers.trailing_metadata()


def test_both_streams_with_large_messages(echo: Any) -> None:
    data = [bytes([number]) * 400_000 for number in range(20)]
    answers = echo.Chat((Note(data=one) for one in data), timeout=TIMEOUT_S)
    assert [answer.data for answer in answers] == data


def test_sync_methods_and_functions(port: int, echo: Any) -> None:
    serve.run(Sync.bind(), name="sync", route_prefix="/sync")
    serve.run(function.bind(), name="function", route_prefix="/function")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = echo_pb2_grpc.EchoStub(channel)
        to_sync = {"metadata": [("application", "sync")], "timeout": TIMEOUT_S}
        assert stub.Say(Note(text="a"), **to_sync).text == "sync: a"
        answers = stub.Count(Note(number=100), **to_sync)
        assert [answer.number for answer in answers] == list(range(100))
        assert ("counted", "100") in answers.trailing_metadata()
        to_function = {"metadata": [("application", "function")], "timeout": TIMEOUT_S}
        assert stub.Say(Note(text="a"), **to_function).text == "function: a"
    serve.delete("sync")
    serve.delete("function")
