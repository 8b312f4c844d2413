"""Runs loads: finds the server's address, then gives the load an event loop of its own."""

from __future__ import annotations

import asyncio
import socket

from eagleray.base.errors import NotRunningError
from eagleray.loadtest.plan import Url

_CONNECT_S = 5.0


async def find_server(url: Url) -> tuple[str, int]:
    """The first IP address of the host that takes a connection. Raises NotRunningError with why there is none."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # the latter for what cannot be a name
        raise NotRunningError(f"The host '{url.host}' of {url} is not known: {error}.") from None
    why: object = "it has no address"
    for _, _, _, _, address in found:
        try:
            async with asyncio.timeout(_CONNECT_S):
                _, writer = await asyncio.open_connection(*address[:2])
        except TimeoutError:
            why = f"no connection within {_CONNECT_S:g} s"
        except OSError as error:
            why = error
        else:
            writer.transport.abort()
            return str(address[0]), url.port
    raise NotRunningError(f"Nobody answers at {url}: {why}. Start the server first, or correct the URL.")
