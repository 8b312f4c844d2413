"""`grpc.health.v1.Health`: one status for the server and for each of the users' services, told on change.

The library's servicer would do, but its watches have no end: a client that watches would hold every drain up until its
time is over. These end when the proxy drains, after they have said NOT_SERVING.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from grpc_health.v1 import health_pb2

_NOT_FOUND = 5
_Response = health_pb2.HealthCheckResponse


class Health:
    """`tell` whether it serves; `close` for good. `services` are those besides "", which is the whole server."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(("", *services))
        self._serving = False
        self._closed = False
        self._changed = asyncio.Event()

    def tell(self, serving: bool) -> None:
        """What clients are told from now on."""
        if serving != self._serving and not self._closed:
            self._serving = serving
            self._announce()

    def close(self) -> None:
        """Nothing is served any more. Idempotent."""
        self._serving = False
        self._closed = True
        self._announce()

    def _announce(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _status_of(self, service: str) -> Any:
        if service not in self._services:
            return _Response.SERVICE_UNKNOWN
        return _Response.SERVING if self._serving else _Response.NOT_SERVING

    # ---- the service: names are the proto's -------------------------------------------------------------------

    async def Check(self, request: Any, context: Any) -> Any:
        status = self._status_of(request.service)
        if status == _Response.SERVICE_UNKNOWN:
            context.set_code(_NOT_FOUND)
            context.set_details(f"Service '{request.service}' is not served here.")
        return _Response(status=status)

    async def Watch(self, request: Any, context: Any) -> None:
        told = None
        while True:
            changed, status = self._changed, self._status_of(request.service)
            if status != told:
                told = status
                await context.write(_Response(status=status))
            if self._closed:
                return
            await changed.wait()

    async def List(self, request: Any, context: Any) -> Any:
        statuses = {service: _Response(status=self._status_of(service)) for service in self._services}
        return health_pb2.HealthListResponse(statuses=statuses)
