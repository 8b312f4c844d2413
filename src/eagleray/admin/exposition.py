"""GET /metrics: the text of a moment, made at most once a second whoever asks how often.

Making it takes milliseconds of the controller's loop, and a scraper that floods is to cost no more than one that does
not: beyond a few answers a second each further one is held back for a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from eagleray.admin.gate import Refusal
from eagleray.admin.openmetrics import OPENMETRICS_TYPE, TEXT_TYPE, render, wants_openmetrics
from eagleray.base.metrics import Snapshot

Scrape = Callable[[], Awaitable[list[Snapshot]]]
"""Gives all metrics as they are now."""

FRESH_S = 0.5
"""How old a text may be that is given again."""

AT_ONCE = 10
"""Scrapes that are answered at once; each second allows that many again."""

HELD_BACK_S = 1.0

MOST_HELD = 100
"""Clients that come and go may leave no more of them behind; further ones get 429."""


class Exposition:
    """Shared by all listeners that serve metrics."""

    def __init__(self, scrape: Scrape) -> None:
        self._scrape = scrape
        self._texts: dict[bool, tuple[float, bytes]] = {}
        self._left = float(AT_ONCE)
        self._asked_at = 0.0
        self._held = 0

    async def read(self, accept: str) -> tuple[bytes, bytes]:
        """Content type and body for a client with this Accept header. Raises Refusal(429)."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._left = min(AT_ONCE, self._left + AT_ONCE * (now - self._asked_at))
        self._asked_at = now
        self._left -= 1.0
        if self._left < 0.0:
            self._left = 0.0
            await self._hold_back()
        openmetrics = wants_openmetrics(accept)
        return OPENMETRICS_TYPE if openmetrics else TEXT_TYPE, await self._text(openmetrics)

    async def _hold_back(self) -> None:
        if self._held >= MOST_HELD:
            raise Refusal(429, "Too Many Requests: metrics change once a second; ask less often.")
        self._held += 1
        try:
            await asyncio.sleep(HELD_BACK_S)
        finally:
            self._held -= 1

    async def _text(self, openmetrics: bool) -> bytes:
        if (text := self._fresh(openmetrics)) is not None:
            return text
        snapshots = await self._scrape()
        if (text := self._fresh(openmetrics)) is None:  # who has waited with us has not made it
            text = render(snapshots, openmetrics=openmetrics)
            self._texts[openmetrics] = asyncio.get_running_loop().time(), text
        return text

    def _fresh(self, openmetrics: bool) -> bytes | None:
        made_at, text = self._texts.get(openmetrics, (float("-inf"), b""))
        return text if asyncio.get_running_loop().time() - made_at < FRESH_S else None
