"""Routers of one process: they reach replicas in memory, follow a table that they are given, and share their counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from eagleray.base.errors import NotRunningError
from eagleray.routing.board import Board
from eagleray.routing.router import Router
from eagleray.routing.table import RoutingTable
from eagleray.rpc.client import Client
from eagleray.rpc.in_process import LocalNetwork
from eagleray.serve.runtime import Runtime

Follow = Callable[["LocalRuntime"], None]


class LocalBoard:
    """One router's count of those who wait for a deployment, in a list of the counts of all routers."""

    def __init__(self, counts: list[LocalBoard]) -> None:
        self._counts = counts
        self._count = 0
        counts.append(self)

    def add(self, delta: int) -> None:
        self._count += delta

    def total(self) -> int:
        return sum(board._count for board in tuple(self._counts))

    def clear_dead(self) -> None:
        """They all live in this process."""

    def close(self) -> None:
        if self in self._counts:
            self._counts.remove(self)


class LocalWorld(LocalNetwork):
    """What the routers of one engine share: the servers in memory and the counts of waiting requests."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, list[LocalBoard]] = {}

    def open_board(self, key: str) -> Board:
        """From any thread: a count of the deployment, for one router."""
        return LocalBoard(self._counts.setdefault(key, []))


class LocalRouter(Router):
    """A router in a `LocalWorld`."""

    def __init__(self, world: LocalWorld, *, eager_ingress: bool = False) -> None:
        super().__init__(partial(Client.connect, dial=world.dial), eager_ingress=eager_ingress)
        self._world = world

    def open_board(self, key: str) -> Board:
        return self._world.open_board(key)


class LocalRuntime(Runtime):
    """Carries handle calls in a `LocalWorld`. `follow` has it told of each routing table, beginning at once."""

    table_is_current = True
    in_process = True

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, world: LocalWorld, follow: Follow) -> None:
        super().__init__(loop, "local", name, router=LocalRouter(world))
        self._follow = follow
        self._follows = False

    def watch(self) -> None:
        if not self._follows:
            self._follows = True
            self.submit_here = self._router.submit
            self._follow(self)

    def update_table(self, table: RoutingTable) -> None:
        """On the loop: a table, which may be older than the one that is in force."""
        if table.version > self._router.table.version:
            self._router.update(table)

    async def first_table(self) -> RoutingTable:
        self.watch()
        return self._router.table

    async def settled(self) -> None:
        """Waits for the connections that the last table asked for."""
        await self._router.settled()

    async def controller(self) -> NoReturn:
        raise NotRunningError("There is no controller in local testing mode.")
