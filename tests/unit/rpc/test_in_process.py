"""Connections in memory behave like asyncio's: order, back-pressure, end of input, buffered protocols, threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from eagleray.rpc.in_process import LocalNetwork, LocalTransport


class Recorder(asyncio.Protocol):
    """Notes what it is told. `eof` is what it answers to the end of input."""

    def __init__(self, *, eof: bool = False) -> None:
        self.transport: LocalTransport | None = None
        self.received = b""
        self.events: list[str] = []
        self.eof = eof

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> bool:
        self.events.append("eof")
        return self.eof

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")


class Buffered(asyncio.BufferedProtocol):
    """Takes three bytes at a time."""

    def __init__(self) -> None:
        self.buffer = bytearray(3)
        self.received = b""

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self.buffer[:nbytes]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def pair(client: Any, server: Any) -> tuple[LocalTransport, LocalTransport]:
    network = LocalNetwork()
    network.listen("s", asyncio.get_running_loop(), lambda: server)
    network.dial("s", client)
    await until(lambda: server.transport)
    return client.transport, server.transport


def test_bytes_arrive_in_order_both_ways_also_those_before_the_accept() -> None:
    async def main() -> None:
        client, server = Recorder(), Recorder()
        network = LocalNetwork()
        network.listen("s", asyncio.get_running_loop(), lambda: server)
        network.dial("s", client)
        assert client.transport is not None
        client.transport.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
        await until(lambda: server.received == b"abc")
        assert server.transport is not None
        server.transport.write(b"x")
        await until(lambda: client.received == b"x")
        assert client.transport.get_write_buffer_size() == 0
        assert server.transport.get_extra_info("peername")[0] == "127.0.0.1"
        assert server.transport.get_extra_info("socket") is None
        client.transport.close()
        await until(lambda: server.events[-1] == "lost")
        assert client.events == ["made", "lost"] and server.events == ["made", "eof", "lost"]

    asyncio.run(main())


def test_a_reader_that_does_not_read_pauses_the_writer() -> None:
    async def main() -> None:
        client, server = Recorder(), Recorder()
        forth, back = await pair(client, server)
        forth.set_write_buffer_limits(high=10)
        back.pause_reading()
        assert not back.is_reading()
        forth.write(b"x" * 10)
        assert client.events == ["made"]
        forth.write(b"y")
        assert client.events == ["made", "pause"] and forth.get_write_buffer_size() == 11
        back.resume_reading()
        await until(lambda: client.events[-1] == "resume")
        assert len(server.received) == 11
        back.abort()
        await until(lambda: client.events[-1] == "lost")
        forth.write(b"nobody")
        assert forth.is_closing() and forth.get_write_buffer_size() == 0

    asyncio.run(main())


def test_half_closed_connections() -> None:
    async def main() -> None:
        client, server = Recorder(), Recorder(eof=True)
        forth, back = await pair(client, server)
        forth.write(b"request")
        forth.write_eof()
        await until(lambda: "eof" in server.events)
        back.write(b"answer")
        back.close()
        await until(lambda: client.events[-1] == "lost")
        assert client.received == b"answer" and server.received == b"request"

    asyncio.run(main())


def test_a_protocol_with_buffers_of_its_own() -> None:
    async def main() -> None:
        client, server, buffered = Recorder(), Recorder(), Buffered()
        forth, back = await pair(client, server)
        back.set_protocol(buffered)
        assert back.get_protocol() is buffered
        forth.write(b"12345678")
        await until(lambda: buffered.received == b"12345678")
        forth.close()
        await until(back.is_closing)

    asyncio.run(main())


def test_where_nobody_listens() -> None:
    async def main() -> None:
        network = LocalNetwork()
        with pytest.raises(ConnectionRefusedError):
            network.dial("s", Recorder())
        network.listen("s", asyncio.get_running_loop(), Recorder)
        network.forget("s")
        with pytest.raises(ConnectionRefusedError):
            network.connect("s")

    asyncio.run(main())


def test_a_thread_s_end() -> None:
    network = LocalNetwork()
    results: list[Any] = []

    class Echo(Recorder):
        def data_received(self, data: bytes) -> None:
            assert self.transport is not None
            self.transport.write(data)
            if data.endswith(b"bye"):
                self.transport.close()

    def talk() -> None:
        socket = network.connect("s")
        socket.settimeout(10)
        socket.sendall(b"hello")
        results.append(socket.recv(3) + socket.recv(100))
        file = socket.makefile("rb")
        socket.sendall(b"line\nbye")
        socket.close()  # the file keeps it open
        results.append(file.readline())
        results.append(file.read())
        file.close()
        other = network.connect("s")
        other.settimeout(0)
        with pytest.raises(TimeoutError):
            other.recv(1)
        other.close()

    async def main() -> None:
        echo = []

        def accept() -> Echo:
            echo.append(Echo())
            return echo[-1]

        network.listen("s", asyncio.get_running_loop(), accept)
        thread = threading.Thread(target=talk)
        thread.start()
        await until(lambda: not thread.is_alive())
        await until(lambda: len(echo) == 2 and all(one.events[-1] == "lost" for one in echo))

    asyncio.run(main())
    assert results[0] == b"hello" and results[1:] == [b"line\n", b"bye"]
