"""A real proxy process between a client, a replica and a controller that are played by this one."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.http.stack import Client as HttpClient

from eagleray.routing import DeploymentEntry, ReplicaEntry, Route, RoutingTable
from eagleray.routing.table import encode_table
from eagleray.rpc.client import Client
from eagleray.rpc.control import ControlMethods
from eagleray.rpc.server import Incoming, Server
from eagleray.wire.control import Ack, Drain, Empty, Health, ProxyLaunch, Ready, decode, encode
from eagleray.wire.messages import ReplyHead

DEADLINE_S = 20.0
KEY = "default#D"

_CHILD = """
import socket, sys
from eagleray.base.process import Child
from eagleray.proxy.__main__ import main
own, http, life = (int(arg) for arg in sys.argv[1:4])
payload = sys.stdin.buffer.read()
main(Child("proxy", payload, socket.socket(fileno=own), socket.socket(fileno=http), life, -1, sys.argv[4], sys.argv[5]))
"""


def unix_listener(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(path)
    sock.listen(16)
    sock.setblocking(False)
    return sock


class World:
    """The controller and the replica that the proxy sees."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.acked: asyncio.Queue[int] = asyncio.Queue()
        self.watching: Incoming | None = None
        methods = ControlMethods({"watch": self._watch, "ack": self._ack})
        self.methods = methods
        self.controller = Server(methods.dispatch)
        self.replica = Server(lambda incoming: incoming.reply(ReplyHead(0, 200, []), b"from the replica"))

    def table(self, version: int, prefix: str) -> RoutingTable:
        replica = ReplicaEntry("r1", f"unix:{self.directory}/r.sock", 10)
        entry = DeploymentEntry("default", "D", (replica,))
        return RoutingTable(version, (Route(prefix, "default", KEY),), {KEY: entry}, {"default": KEY}, True)

    async def _watch(self, payload: bytes, incoming: Incoming) -> None:
        self.watching = incoming
        incoming.on_cancel = lambda: incoming.reply(ReplyHead())
        incoming.reply(ReplyHead(), encode_table(self.table(1, "/")), end=False)

    async def _ack(self, payload: bytes, incoming: Incoming) -> Empty:
        self.acked.put_nowait(decode(payload, Ack).version)
        return Empty()

    async def close(self) -> None:
        await self.controller.close()
        await self.methods.close()
        await self.replica.close()


@asynccontextmanager
async def proxy(
    **options: Any,
) -> AsyncIterator[tuple[World, subprocess.Popen[bytes], Client, tuple[str, int], Path]]:
    with tempfile.TemporaryDirectory(prefix="er-") as directory:
        world = World(directory)
        await world.controller.start(unix_listener(f"{directory}/c.sock"))
        await world.replica.start(unix_listener(f"{directory}/r.sock"))
        own = unix_listener(f"{directory}/p.sock")
        http = socket.create_server(("127.0.0.1", 0))
        address = http.getsockname()
        life, life_writer = os.pipe()
        launch = ProxyLaunch(
            proxy_id="p1",
            controller_address=f"unix:{directory}/c.sock",
            http_options=options,
            logs_dir=directory,
        )
        log = Path(directory, "proxy.log")
        arguments = [str(own.fileno()), str(http.fileno()), str(life), directory, str(log)]
        process = spawn(arguments, encode(launch), (own.fileno(), http.fileno(), life))
        own.close()
        http.close()
        os.close(life)
        control = await Client.connect(f"unix:{directory}/p.sock")
        try:
            yield world, process, control, address, log
        finally:
            os.close(life_writer)
            control.close()
            await control.wait_closed()
            await asyncio.to_thread(process.wait, DEADLINE_S)
            await world.close()


def spawn(arguments: list[str], payload: bytes, fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", _CHILD, *arguments], stdin=subprocess.PIPE, pass_fds=fds
    )
    assert process.stdin is not None
    process.stdin.write(payload)
    process.stdin.close()
    return process


async def open_http(address: tuple[str, int], **options: Any) -> HttpClient:
    return HttpClient(*await asyncio.open_connection(*address, **options))


def test_a_proxy_serves_follows_the_table_and_drains() -> None:
    async def main() -> None:
        async with proxy() as (world, process, control, address, log):
            ready = await control.request("ready", Empty(), Ready, timeout_s=DEADLINE_S)
            assert (ready.error, ready.pid) == ("", process.pid)
            assert await world.acked.get() == 1
            client = await open_http(address)
            assert (await client.get("/x")).body == b"from the replica"
            assert world.watching is not None
            world.watching.send(encode_table(world.table(2, "/only")))
            assert await world.acked.get() == 2
            assert (await client.get("/x")).status == 404
            assert (await client.get("/only/x")).status == 200
            health = await control.request("check_health", Empty(), Health, timeout_s=DEADLINE_S)
            assert (health.error, health.ongoing) == ("", 0)
            await control.request("drain", Drain(timeout_s=5), Empty, timeout_s=DEADLINE_S)
            assert await client.rest() == b""
            await client.close()
            assert await asyncio.to_thread(process.wait, DEADLINE_S) == 0
            lines = [
                line.split(" -- ")[1].rsplit(" ", 1)[0]
                for line in log.read_text().splitlines()
                if "ms" in line
            ]
            assert lines == ["GET / 200", "GET  404", "GET /only 200"]

    asyncio.run(main())


def test_a_proxy_goes_on_without_a_controller() -> None:
    async def main() -> None:
        async with proxy() as (world, _, control, address, _log):
            await control.request("ready", Empty(), Ready, timeout_s=DEADLINE_S)
            await world.controller.close()
            client = await open_http(address)
            for _ in range(3):
                assert (await client.get()).body == b"from the replica"
            await client.close()

    asyncio.run(main())


def test_a_sigterm_ends_a_proxy_in_order() -> None:
    async def main() -> None:
        async with proxy() as (_, process, control, address, log):
            await control.request("ready", Empty(), Ready, timeout_s=DEADLINE_S)
            client = await open_http(address)
            assert (await client.get()).status == 200
            process.terminate()
            assert await asyncio.to_thread(process.wait, DEADLINE_S) == 0
            assert "GET / 200" in log.read_text(), "the access log is complete"
            await client.close()

    asyncio.run(main())


def test_bad_tls_files_are_told_to_who_asks_for_readiness() -> None:
    async def main() -> None:
        async with proxy(ssl_certfile="/nowhere/c.pem", ssl_keyfile="/nowhere/k.pem") as (
            _,
            process,
            control,
            _a,
            _l,
        ):
            ready = await control.request("ready", Empty(), Ready, timeout_s=DEADLINE_S)
            assert "/nowhere/c.pem" in ready.error
            process.terminate()

    asyncio.run(main())


def test_https(tmp_path: Path) -> None:
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
    made = subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=DNS:localhost -keyout {key} -out {cert}".split(),
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("openssl cannot make a certificate here")
    trusted = ssl.create_default_context(cafile=str(cert))

    async def main() -> None:
        async with proxy(ssl_certfile=str(cert), ssl_keyfile=str(key)) as (
            _,
            _process,
            control,
            address,
            _log,
        ):
            assert (await control.request("ready", Empty(), Ready, timeout_s=DEADLINE_S)).error == ""
            client = await open_http(address, ssl=trusted, server_hostname="localhost")
            assert (await client.get()).body == b"from the replica"
            await client.send(b"BAD\r\n\r\n")
            assert (await client.response()).status == 400
            assert await client.rest() == b""
            await client.close()

    asyncio.run(main())
