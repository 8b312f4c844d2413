"""WebSockets and the life of an instance: new versions, the end, and what a proxy imports."""

from __future__ import annotations

import asyncio

from tests.integration.serve.test_websocket import Child, Served, Sockets, closed, proxy_and_replicas, urlopen
from tests.ports import free_port
from websockets.asyncio.client import connect

from eagleray import serve


def test_a_new_version_and_the_end_of_the_instance_close_with_1012() -> None:
    port = free_port()
    serve.start(http_options={"port": port})
    handle = serve.run(Sockets.bind(Child.bind()), name="main", route_prefix="/app")
    served = Served(port, handle)

    async def main() -> None:
        async with connect(served.url("/app/holds")) as client:
            await asyncio.to_thread(serve.run, Sockets.bind(Child.bind()), name="main", route_prefix="/app")
            assert await closed(client) == (1012, "the replica restarts")
        async with connect(served.url("/app/echo")) as client:
            await asyncio.to_thread(serve.shutdown)
            assert (await closed(client))[0] in (1011, 1012)

    try:
        asyncio.run(main())
    finally:
        serve.shutdown()


def test_a_proxy_without_websockets_has_not_imported_the_library() -> None:
    port = free_port()
    serve.start(http_options={"port": port})
    serve.run(Sockets.bind(Child.bind()), name="main", route_prefix="/app")
    served = Served(port, None)
    try:
        proxy, _ = proxy_and_replicas()
        with urlopen(served, "/app/events"):
            pass
        speedups = "websockets/speedups"
        assert not any(speedups in mapped.path for mapped in proxy.memory_maps())
        served.raw("/app/echo").close()
        assert any(speedups in mapped.path for mapped in proxy.memory_maps())
    finally:
        serve.shutdown()
