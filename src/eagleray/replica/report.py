"""What a replica says of itself to everyone who calls it: its models, and what the user's hooks record for routers.

It goes straight to the callers over their connections, so routing by it needs no controller; who connects later gets
the last report first. Belongs to the user's loop.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from eagleray.base.tasks import Tasks
from eagleray.base.threads import run_in_new_thread
from eagleray.replica.errors import trimmed_text
from eagleray.wire.messages import ReplicaReport, encode_report

logger = logging.getLogger("ray.serve")

_STATS_PERIOD_S, _STATS_TIMEOUT_S = 10.0, 30.0
"""The defaults of RequestRouterConfig, for deployments without one."""
_MAX_MODEL_BYTES = 128 * 1024
"""Bytes of model ids in one report, half a frame; beyond, those that were used longest ago are left out."""
_MAX_RECORD_BYTES = 48 * 1024
"""Bytes of what one hook returns: a report is sent to every caller whenever it changes."""


class Reporter:
    """Sends a report whenever something in it changes, by `send`."""

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self._send = send
        self._report = ReplicaReport()
        self._tasks = Tasks("reports")

    # ---- models ----------------------------------------------------------------------------------------------

    def models(self, models: list[str], free_places: int) -> None:
        """The models of this replica have changed."""
        self._report.models = _newest(models)
        self._report.free_places = free_places
        self._tell()

    def _tell(self) -> None:
        self._send(encode_report(self._report))

    # ---- hooks -----------------------------------------------------------------------------------------------

    async def begin(self, instance: Any, deployment_config: dict[str, Any]) -> str:
        """Asks the user's `record_replica_metadata` once and begins to ask `record_routing_stats` now and then.

        Returns the error for the user, or "": the first one belongs to the start.
        """
        metadata = getattr(instance, "record_replica_metadata", None)
        if callable(metadata):
            try:
                self._report.metadata = _checked("record_replica_metadata", await _call(metadata))
            except BaseException as error:  # user code may raise anything
                return trimmed_text(error)
            self._tell()
        stats = getattr(instance, "record_routing_stats", None)
        if callable(stats):
            config = deployment_config.get("request_router_config") or {}
            period_s = config.get("request_routing_stats_period_s", _STATS_PERIOD_S)
            timeout_s = config.get("request_routing_stats_timeout_s", _STATS_TIMEOUT_S)
            self._tasks.start(self._record(stats, period_s, timeout_s), name="record_routing_stats")
        return ""

    async def _record(self, stats: Callable[[], Any], period_s: float, timeout_s: float) -> None:
        """A task's root."""
        while True:
            try:
                async with asyncio.timeout(timeout_s):
                    found = _checked("record_routing_stats", await _call(stats))
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # user code may raise anything; the last statistics stay
                logger.error("`record_routing_stats` has failed: %s: %s", type(error).__name__, error)
            else:
                if found != self._report.routing_stats:
                    self._report.routing_stats = found
                    self._tell()
            await asyncio.sleep(period_s)

    async def close(self) -> None:
        await self._tasks.close()


def _newest(models: list[str]) -> list[str]:
    size, first = 0, len(models)
    while first and (size := size + 5 + len(models[first - 1].encode())) <= _MAX_MODEL_BYTES:
        first -= 1
    return models[first:]


async def _call(function: Callable[[], Any]) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function()
    found = await run_in_new_thread(function)
    return await found if inspect.isawaitable(found) else found


def _checked(name: str, found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise TypeError(f"`{name}` must return a dict, got {type(found).__name__}.")
    try:
        size = len(msgspec.msgpack.encode(found))
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"`{name}` must return plain data (text, numbers, lists, dicts): {error}") from None
    if size > _MAX_RECORD_BYTES:
        raise ValueError(f"`{name}` must return at most {_MAX_RECORD_BYTES} bytes, got {size}.")
    return found
