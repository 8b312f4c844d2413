"""Clients that go at any instant cost nothing that lasts: every slot is free again and nothing goes on running."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import psutil
from tests.fault.disconnecting import SLOTS
from tests.fault.instance import Instance, serving
from tests.waiting import wait_until

DISCONNECTS = 10_000
CLIENTS = 48
ROLES = ("node", "controller", "proxy", "replica")
BODY = b"b" * 40_000
REQUESTS = [
    b"GET /work HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /thread HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY),
    b"GET /work HTTP/1.1\r\nHost: a\r\n\r\n" * 3,
]


def get(instance: Instance, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{instance.host}:{instance.port}{path}", timeout=30) as reply:
        data: bytes = reply.read()
        return data


async def leave_early(instance: Instance) -> None:
    """Sends a request, or only a part, perhaps reads a little, and goes, in order or by a reset."""
    reader, writer = await asyncio.open_connection(instance.host, instance.port, limit=4096)
    request = random.choice(REQUESTS)
    writer.write(request if random.random() < 0.8 else request[: random.randrange(len(request))])
    try:
        async with asyncio.timeout(random.choice((0.0, 0.001, 0.003, 0.01))):
            await reader.read(random.choice((1, 100, 100_000)))
    except (TimeoutError, ConnectionError):
        pass
    if random.random() < 0.5:
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def disconnect_all(instance: Instance) -> None:
    left = DISCONNECTS

    async def client() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await leave_early(instance)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


def test_ten_thousand_disconnects_leave_every_counter_at_zero() -> None:
    with serving("tests.fault.disconnecting:app") as instance:
        get(instance, "/work")
        proxy = psutil.Process(instance.pid("proxy"))
        descriptors = proxy.num_fds()
        processes = [instance.pids(role) for role in ROLES]
        asyncio.run(disconnect_all(instance))

        wait_until(lambda: json.loads(get(instance, "/busy")) == [0, 0], what="nothing running")
        # All slots at once, of both deployments: none is lost.
        with ThreadPoolExecutor(SLOTS) as pool:
            list(pool.map(lambda _: get(instance, "/together"), range(SLOTS)))
        get(instance, "/together-below")
        wait_until(lambda: proxy.num_fds() <= descriptors + 1, what="no descriptor left open")
        assert [instance.pids(role) for role in ROLES] == processes, "none was restarted"
