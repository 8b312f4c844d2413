"""The Engine protocol: who starts, stops, lists and buries the processes of an instance.

An engine only does what it is told: it decides nothing, restarts nothing and keeps no desired state. Every
implementation runs the same contract suite (`tests/contract/engine`).
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from eagleray.base.errors import EaglerayError
from eagleray.wire.control import Exited, StartChild, Started


class EngineError(EaglerayError):
    """The engine could not do it; `code` is `port_in_use`, `exists`, `closed` or `internal`, `reason` is for people."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code  # type: ignore[misc]  # the engine's own code, instead of the class's
        self.reason = reason
        super().__init__(reason)

    def __reduce__(self) -> tuple[type[EngineError], tuple[str, str]]:
        return type(self), (self.code, self.reason)


@dataclass(frozen=True)
class Capacity:
    """What the machine has to give. `gpu_ids` are the values that may stand in CUDA_VISIBLE_DEVICES."""

    num_cpus: float
    memory_bytes: int
    gpu_ids: tuple[str, ...] = ()
    resources: Mapping[str, float] = field(default_factory=dict)

    @property
    def num_gpus(self) -> int:
        return len(self.gpu_ids)


class Engine(Protocol):
    """Starts children by `ref`, which the caller chooses and which is unique among living children."""

    on_suspended: Callable[[str, bool], None]
    """Called with a ref when its process was stopped by a signal (True) or goes on (False), and after `children()` for
    each that is stopped. The caller sets it; by default nothing happens."""

    on_leaving: Callable[[], None]
    """Called when the whole instance is to drain and end, again after `children()`; as above."""

    async def start(self, request: StartChild) -> Started:
        """Returns when the process exists and its socket accepts connects; raises EngineError."""

    async def stop(self, ref: str, signum: int = signal.SIGTERM) -> None:
        """Sends a signal (SIGKILL: to the whole process group); a `ref` that has gone is no error."""

    async def children(self) -> list[Started]:
        """All living children but the caller itself, for adoption."""

    async def close_listeners(self) -> None:
        """Returns when nobody but the proxies that there are listens for HTTP any more. Idempotent."""

    def exits(self) -> AsyncIterator[Exited]:
        """Every end of a child since the engine was attached, in order and without loss; one consumer.

        Ends when the engine is closed or has died.
        """

    def capacity(self) -> Capacity:
        """What there is in total; who uses how much is the caller's book-keeping."""

    async def shutdown(self) -> None:
        """Ends the instance: everything that is left is killed, the caller's process included."""

    async def close(self) -> None:
        """Lets go of the engine; children live on."""
