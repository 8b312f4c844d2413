"""Processes that die, clients that send nonsense or do not read: each costs its own RPCs and nobody else's."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.compat.world import Journal
from tests.integration.grpc_proxy.app import Note
from tests.integration.grpc_proxy.conftest import ANY_SIZE, TIMEOUT_S
from tests.processes import command_of, descendants, wait_gone
from tests.protos import echo_pb2_grpc
from tests.waiting import wait_until

from eagleray import serve

Code = grpc.StatusCode
MEGABYTE = 2**20


def failure(call: Callable[[], object]) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def pids(role: str) -> set[int]:
    return {pid for pid in descendants(os.getpid()) if command_of(pid) == f"er:{role}"}


@pytest.fixture
def only(echo: Any) -> Iterator[Any]:
    """The stub; no process may be restarted meanwhile."""
    before = pids("replica") | pids("proxy.grpc")
    assert len(before) == 2
    yield echo
    assert pids("replica") | pids("proxy.grpc") == before
    assert echo.Say(Note(text="alive"), timeout=TIMEOUT_S).text == "echo: alive"


def raw(port: int, path: str) -> Any:
    """A stub that sends bytes as they are, and its channel."""
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=ANY_SIZE)
    return channel, channel.unary_unary(f"/tests.echo.Echo/{path}")


# ---- bad input --------------------------------------------------------------------------------------------


def test_bytes_that_are_no_message_are_internal(port: int, only: Any) -> None:
    channel, say = raw(port, "Say")
    with channel:
        error = failure(lambda: say(b"\xff" * 40, timeout=TIMEOUT_S))
    assert error.code() is Code.INTERNAL
    assert error.details() == ("Exception deserializing request! 40 bytes are no echo_pb2:Note.FromString.")


def test_bytes_that_are_no_message_in_a_stream(port: int, only: Any) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        join = channel.stream_unary("/tests.echo.Echo/Join")
        good = Note(text="good").SerializeToString()
        error = failure(lambda: join(iter([good, b"\xff\xff", good]), timeout=TIMEOUT_S))
    assert error.code() is Code.INTERNAL
    assert "Exception deserializing request!" in error.details()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=st.binary(max_size=200))
def test_any_bytes_are_answered(port: int, only: Any, shared: Any, message: bytes) -> None:
    """Either it is a message by luck, or it is refused."""
    try:
        shared(message, timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        assert error.code() is Code.INTERNAL, error.details()


@pytest.fixture(scope="module")
def shared(port: int) -> Iterator[Any]:
    channel, say = raw(port, "Say")
    with channel:
        yield say


def test_too_large_a_request_is_refused(port: int, only: Any) -> None:
    channel, say = raw(port, "Say")
    with channel:
        error = failure(lambda: say(b"\x1a" + bytes(65 * MEGABYTE), timeout=TIMEOUT_S))
    assert error.code() is Code.RESOURCE_EXHAUSTED


def test_too_large_a_reply_is_refused(only: Any) -> None:
    error = failure(lambda: only.Say(Note(text=f"large {65 * MEGABYTE}"), timeout=TIMEOUT_S))
    assert error.code() is Code.RESOURCE_EXHAUSTED
    assert "max_message_bytes" in error.details()


@pytest.mark.parametrize(
    "noise",
    [
        b"\x00" * 1000,
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 500,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x10\x00\x01\x00\x00\x00\x07",
    ],
    ids=["zeros", "http/1", "frames of nonsense", "data on no stream"],
)
def test_noise_on_the_port(port: int, only: Any, noise: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.sendall(noise)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while connection.recv(65536):
                pass


def test_a_client_that_leaves_in_the_middle_of_a_message(port: int, only: Any) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00")


# ---- slow readers -------------------------------------------------------------------------------------------


def test_a_client_that_does_not_read_holds_the_generator(only: Any, journal: Journal) -> None:
    """Of 1 GB that it could have, the client takes 20 messages; the generator is not far ahead then."""
    answers = only.Count(Note(text="tell", number=10_000, data=b"x" * 100_000), timeout=TIMEOUT_S)
    for _ in range(20):
        next(answers)
    answers.cancel()

    def told() -> list[str]:
        return [line for line in journal.lines() if line.startswith("counted to")]

    (line,) = wait_until(told, "the generator's end")
    assert 19 <= int(line.split()[-1]) < 400


# ---- deaths -------------------------------------------------------------------------------------------------


def test_a_replica_that_dies(echo: Any, journal: Journal) -> None:
    before = journal.count("waiting")
    victim = echo.Say(Note(text="pid"), timeout=TIMEOUT_S).number
    calls = [
        echo.Say.future(Note(text="wait"), timeout=TIMEOUT_S),
        echo.Say.future(Note(text="wait"), timeout=TIMEOUT_S),
    ]
    chatting = echo.Chat((one for one in [Note(text="a")]), timeout=TIMEOUT_S)
    assert next(chatting).text == "A"
    journal.wait_for("waiting", before + 2)
    os.kill(victim, signal.SIGKILL)
    for call in calls:
        error = call.exception(timeout=TIMEOUT_S)
        assert error.code() is Code.UNAVAILABLE
        assert "died" in error.details() and "not sent again" in error.details()
    assert echo.Say(Note(text="pid"), timeout=TIMEOUT_S).number != victim


def test_a_proxy_that_dies(port: int, echo: Any, journal: Journal) -> None:
    """Another one takes its port; calls that it had are cancelled, and the replica is the same."""
    replica = echo.Say(Note(text="pid"), timeout=TIMEOUT_S).number
    (victim,) = pids("proxy.grpc")
    waiting, cancelled = journal.count("waiting"), journal.count("cancelled")
    call = echo.Say.future(Note(text="wait"), timeout=TIMEOUT_S)
    journal.wait_for("waiting", waiting + 1)
    os.kill(victim, signal.SIGKILL)
    assert call.exception(timeout=TIMEOUT_S).code() is Code.UNAVAILABLE
    journal.wait_for("cancelled", cancelled + 1)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = echo_pb2_grpc.EchoStub(channel)
        assert stub.Say(Note(text="pid"), wait_for_ready=True, timeout=TIMEOUT_S).number == replica
    assert pids("proxy.grpc") and victim not in pids("proxy.grpc")


def test_a_controller_that_dies_is_not_noticed(echo: Any) -> None:
    (victim,) = pids("controller")
    proxies = pids("proxy.grpc")
    os.kill(victim, signal.SIGKILL)
    for _ in range(20):
        assert echo.Say(Note(text="on"), timeout=TIMEOUT_S).text == "echo: on"
    assert not wait_gone([victim], 30.0)
    assert serve.status().applications["main"].status == "RUNNING", "the next one has adopted them"
    assert pids("proxy.grpc") == proxies


def test_the_http_proxy_and_node_stay_without_grpc(echo: Any) -> None:
    """What is loaded is seen in the processes' maps: grpc's extension module is mapped where it is imported."""

    def has_grpc(pid: int) -> bool:
        return any("cygrpc" in one.path for one in psutil.Process(pid).memory_maps())

    assert all(has_grpc(pid) for pid in pids("proxy.grpc"))
    others = pids("proxy") | pids("node") | pids("controller")
    assert len(others) == 3
    assert not any(has_grpc(pid) for pid in others)


def test_everything_ends(port: int, echo: Any) -> None:
    """Runs last: `shutdown` leaves neither process nor port."""
    everything = descendants(os.getpid())
    serve.shutdown()
    assert not wait_gone(everything, 30.0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
