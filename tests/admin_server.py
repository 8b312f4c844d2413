"""A REST server in this process over operations that only remember, and the smallest HTTP client for it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.compat.client import Reply

from eagleray.admin.actions import Actions
from eagleray.admin.audit import Audit
from eagleray.admin.exposition import Exposition
from eagleray.admin.gate import Gate
from eagleray.admin.records import EventsQuery, HistoryQuery, Reading
from eagleray.admin.server import AdminServer
from eagleray.admin.tokens import Tokens
from eagleray.base.errors import ConfigError
from eagleray.base.metrics import Snapshot
from eagleray.http.listen import Listener

TOKENS = Tokens(b"a" * 43, b"r" * 43)
ADMIN = {"authorization": "Bearer " + "a" * 43}
READER = {"authorization": "Bearer " + "r" * 43}
JSON = {"content-type": "application/json"}


@dataclass
class Remembering:
    """Operations on a dict of applications; `calls` are those that would have changed something."""

    applications: dict[str, Any] = field(default_factory=dict)
    calls: list[Any] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    scrapes: int = 0
    history_size: int = 0
    failure: Exception | None = None
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event | None = None

    async def apply(self, config: dict[str, Any], merge: bool) -> list[str]:
        await self._note("apply", config, merge)
        if not isinstance(config.get("applications"), list):
            raise ConfigError("applications: must be a list")
        return self.warnings

    async def apply_application(self, name: str, config: dict[str, Any]) -> list[str]:
        await self._note("apply_application", name, config)
        return self.warnings

    def details(self, api_type: str | None) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        chosen = {
            name: one for name, one in self.applications.items() if api_type in (None, one.get("source"))
        }
        return {"controller_info": {}, "proxies": {}, "applications": chosen, "target_capacity": None}

    async def wait_routed(self) -> None:
        await self._note("wait_routed")

    def size(self, query: HistoryQuery) -> int:
        return self.history_size

    async def history(self, query: HistoryQuery) -> dict[str, Any]:
        return {"query": asdict(query)}

    def events(self, query: EventsQuery) -> dict[str, Any]:
        return {"query": asdict(query)}

    def overview(self) -> dict[str, Any]:
        return {"applications": list(self.applications)}

    async def scrape(self) -> list[Snapshot]:
        self.scrapes += 1
        return self.snapshots

    async def scale(self, app: str, deployment: str, num_replicas: int) -> None:
        await self._note("scale", app, deployment, num_replicas)

    async def delete(self, names: list[str]) -> None:
        await self._note("delete", *names)

    async def shutdown(self) -> None:
        await self._note("shutdown")

    async def _note(self, *call: Any) -> None:
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.calls.append(call)


@dataclass
class Serving:
    """The server under test."""

    port: int
    operations: Remembering
    server: AdminServer
    audit_path: Path

    async def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | str = b""
    ) -> Reply:
        """One request on a connection of its own; Host, if `headers` do not say, is that of the server."""
        data = body.encode() if isinstance(body, str) else body
        fields = {"host": f"127.0.0.1:{self.port}", "connection": "close", **(headers or {})}
        if data:
            fields.setdefault("content-length", str(len(data)))
        lines = [
            f"{method} {path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in fields.items() if value),
        ]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode() + data)
            raw = await asyncio.wait_for(reader.read(), 30)
        finally:
            writer.close()
            await writer.wait_closed()
        return parse(raw)

    def audit(self) -> list[dict[str, Any]]:
        text = self.audit_path.read_text() if self.audit_path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]


def parse(raw: bytes) -> Reply:
    """The only response in `raw`."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Reply(int(first.split()[1]), headers, body)


@asynccontextmanager
async def serving(directory: Path, failures_at_once: float = 1e9, **state: Any) -> AsyncIterator[Serving]:
    """A server that writes its audit log to `directory`; `state` is that of its Remembering."""
    operations = Remembering(**state)
    audit_path = directory / "audit.log"
    server = AdminServer(
        Gate(TOKENS, ["ops.example"]),
        Actions(operations, "1.2.3", "session_1", Exposition(operations.scrape), Reading(operations)),
        Audit(str(audit_path)),
        failures_at_once=failures_at_once,
    )
    with socket.create_server(("127.0.0.1", 0)) as sock:
        listener = Listener(sock, server.connection)
        listener.start()
        try:
            yield Serving(sock.getsockname()[1], operations, server, audit_path)
        finally:
            await listener.close()
            await server.close()
