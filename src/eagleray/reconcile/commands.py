"""What the controller is told to do, and the plan that carries it.

A command names an instance and says what cannot be looked up later. Every command may be repeated.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from eagleray.reconcile.events import BuildRequest, Event
from eagleray.reconcile.target import RunningConfig


class Command(msgspec.Struct, frozen=True):
    """Base of all commands."""


class StartInstance(Command, frozen=True):
    """Start the process, connect to it and wait until it is ready."""

    ref: str


class GreetInstance(Command, frozen=True):
    """The process is there already: connect to it and wait until it is ready."""

    ref: str


class ReconfigureInstance(Command, frozen=True):
    """Tell a live replica its new configuration; fields that equal `before` are left out."""

    ref: str
    before: RunningConfig
    after: RunningConfig


class CheckHealth(Command, frozen=True):
    ref: str
    timeout_s: float


class DrainInstance(Command, frozen=True):
    ref: str
    timeout_s: float


class StopInstance(Command, frozen=True):
    ref: str
    signum: int


class BuildApplication(Command, frozen=True):
    name: str
    generation: int
    request: BuildRequest


class StopBuild(Command, frozen=True):
    """Nobody wants the application any more."""

    name: str


class CloseListeners(Command, frozen=True):
    """The proxies are about to go, and no others come: whoever connects from now on is to be refused at once."""


class EndInstance(Command, frozen=True):
    """Everything is gone: end the whole instance."""


class Plan:
    """What to do now. `events` are decisions: they are applied, and made durable, before `commands` are performed.

    `wake_at` is the moment to reconcile the key again if nothing happens before; None: never.
    """

    __slots__ = ("commands", "events", "wake_at")

    def __init__(
        self, commands: Iterable[Command] = (), events: Iterable[Event] = (), wake_at: float | None = None
    ) -> None:
        self.commands = list(commands)
        self.events = list(events)
        self.wake_at = wake_at

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        mine, theirs = (
            (self.commands, self.events, self.wake_at),
            (other.commands, other.events, other.wake_at),
        )
        return mine == theirs

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Plan(commands={self.commands}, events={self.events}, wake_at={self.wake_at})"

    def wake(self, at: float) -> None:
        """Asks to be woken at `at` at the latest."""
        if self.wake_at is None or at < self.wake_at:
            self.wake_at = at
