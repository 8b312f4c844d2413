"""What goes wrong: processes die, stop and fall ill, links break, the disk is full, the controller dies."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from eagleray.testing.simulation.children import Child, SimReplica

if TYPE_CHECKING:
    from eagleray.testing.simulation.machine import Machine


class Faults:
    """Of one machine; one in four machines has none, and there nothing may be lost at all."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._rng = random.Random(f"{machine.seed}/faults")
        self._kinds = (
            self._kill,
            self._kill,
            self._crash,
            self._crash,
            self._stop,
            self._sicken,
            self._cut,
            self._fill,
        )

    async def happen(self, seconds: float) -> None:
        """One fault after another for so long; all that can end has ended when this returns."""
        rng = self._rng
        mean_s = rng.choice((0.0, 2.0, 5.0, 15.0))
        if not mean_s:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        async with asyncio.TaskGroup() as lasting:
            while True:
                await asyncio.sleep(rng.expovariate(1 / mean_s))
                if loop.time() >= until:
                    break
                kind = rng.choice(self._kinds)
                if kind == self._crash:
                    await kind()
                else:
                    lasting.create_task(kind())
        self._machine.sick.clear()

    def _victim(self) -> Child | None:
        children = list(self._machine.children.values())
        return self._rng.choice(children) if children else None

    async def _kill(self) -> None:
        child = self._victim()
        if child is not None:
            self._machine.kill(child.ref, "it is killed")

    async def _crash(self) -> None:
        await self._machine.crash()

    async def _stop(self) -> None:
        child = self._victim()
        if child is None:
            return
        self._machine.explain(child.ref, "it is stopped")
        child.stop()
        await asyncio.sleep(self._rng.choice((0.5, 3.0, 20.0)))
        self._machine.trace(f"{child.ref} goes on")
        child.go_on()

    async def _sicken(self) -> None:
        child = self._victim()
        if isinstance(child, SimReplica):
            self._machine.trace(f"{child.ref} falls ill")
            self._machine.sick.add(child.ref)

    async def _cut(self) -> None:
        child = self._victim()
        if child is not None and child.ends:
            self._machine.explain(child.ref, "one of its links is cut")
            self._rng.choice(child.ends).close()

    async def _fill(self) -> None:
        machine = self._machine
        machine.trace("the disk is full")
        machine.disk.full = machine.disk_was_full = True
        await asyncio.sleep(self._rng.choice((0.5, 4.0)))
        machine.trace("the disk has room")
        machine.disk.full = False
