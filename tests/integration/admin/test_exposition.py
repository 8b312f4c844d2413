"""Scrapers that flood, stall or vanish: the text is made no more often for it, and the others are answered."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from tests.admin_server import READER, serving

from eagleray.admin import exposition as module
from eagleray.admin.exposition import AT_ONCE, Exposition
from eagleray.admin.gate import Refusal
from eagleray.base.metrics import Sample, Snapshot


class Scraped:
    def __init__(self, size: int = 1) -> None:
        self.times = 0
        self.samples = [Sample((f"{number:0>100}",), 1.0) for number in range(size)]

    async def __call__(self) -> list[Snapshot]:
        self.times += 1
        return [Snapshot("serve_calls", "counter", "Calls.", ("route",), (), self.samples)]


def test_a_flood_is_answered_with_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRESH_S", 1e6)
    monkeypatch.setattr(module, "HELD_BACK_S", 0.0)

    async def main() -> None:
        scraped = Scraped()
        exposition = Exposition(scraped)
        answers = await asyncio.gather(*(exposition.read("") for _ in range(200)), return_exceptions=True)
        texts = [one for one in answers if not isinstance(one, BaseException)]
        assert len({text for _, text in texts}) == scraped.times == 1
        assert len(texts) == AT_ONCE + module.MOST_HELD
        refused = [one for one in answers if isinstance(one, Refusal)]
        assert {one.status for one in refused} == {429}
        assert (await exposition.read("application/openmetrics-text"))[1].endswith(b"# EOF\n")

    asyncio.run(main())


def test_who_does_not_read_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Megabytes of text, and clients that ask for them and take not a byte, or go away."""
    monkeypatch.setattr(module, "FRESH_S", 1e6)
    monkeypatch.setattr(module, "HELD_BACK_S", 0.01)
    head = "GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n" + "".join(
        f"{k}: {v}\r\n" for k, v in READER.items()
    )

    async def main() -> None:
        async with serving(tmp_path, snapshots=await Scraped(20_000)()) as server, asyncio.timeout(60):
            stalled = []
            for number in range(40):
                sock = socket.create_connection(("127.0.0.1", server.port))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.sendall((head + "\r\n").encode())
                if number % 4 == 3:
                    sock.close()
                else:
                    stalled.append(sock)
            answers = await asyncio.gather(*(server.ask("GET", "/metrics", READER) for _ in range(5)))
            assert {answer.status for answer in answers} == {200}
            assert {len(answer.body) for answer in answers} == {len(answers[0].body)}
            assert server.operations.scrapes == 1
            for sock in stalled:
                sock.close()

    asyncio.run(main())
