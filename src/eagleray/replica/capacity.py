"""How many calls a replica takes: as many as its user allows, or at least as many as its batches hold.

A batched function can only fill its batches when the replica takes that many calls at once, and one batch more, which
gathers while the others run. So batched methods raise a limit that the user has left at its default, and routers are
told; a limit that the user did set is kept, with a warning when it is too low to ever fill a batch.

Belongs to the user's loop.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

from eagleray.replica.slots import Slots
from eagleray.serve.batching import Batcher, batcher_of

logger = logging.getLogger("ray.serve")


class Capacity:
    """Sets the limit of `slots`. `tell` announces to routers a limit that the routing table does not have."""

    def __init__(self, deployment: str, slots: Slots, is_given: bool, tell: Callable[[int], object]) -> None:
        self._deployment = deployment
        self._slots = slots
        self._configured = slots.limit
        self._is_given = is_given
        self._tell = tell
        self._batchers: set[Batcher] = set()
        self._has_told = False
        self._warned: tuple[int, int] | None = None

    def configure(self, limit: int | None, is_given: bool | None) -> None:
        """The user's `max_ongoing_requests`, and whether it is the user's; None leaves it as it is."""
        if limit is not None:
            self._configured = limit
        if is_given is not None:
            self._is_given = is_given
        self._update()

    def find(self, instance: Any) -> None:
        """Counts the batched methods of the instance, or the function that is one."""
        found = [batcher_of(instance)]
        if not inspect.isroutine(instance):
            members = [*vars(instance).values()] if hasattr(instance, "__dict__") else []
            for base in type(instance).__mro__:
                members += [member for name, member in vars(base).items() if _is_own(instance, name, member)]
            found += [batcher_of(member) for member in members]
        self._batchers.update(batcher for batcher in found if batcher is not None)
        self._update()

    def declare(self, batcher: Batcher) -> None:
        """A batched function is used for the first time, or its settings have changed."""
        self._batchers.add(batcher)
        self._update()

    def _update(self) -> None:
        filled = sum(batcher.capacity for batcher in self._batchers)
        wanted = filled + sum(batcher.settings.max_batch_size for batcher in self._batchers)
        limit = self._configured if self._is_given else max(self._configured, wanted)
        if self._is_given and filled > limit and self._warned != (limit, filled):
            self._warned = (limit, filled)
            names = ", ".join(sorted(batcher.name for batcher in self._batchers))
            logger.warning(
                "Deployment '%s' has max_ongoing_requests=%d, but the batches of %s hold %d requests "
                "(max_batch_size x max_concurrent_batches): they can never fill. Raise max_ongoing_requests to at "
                "least %d, or leave it out: then it follows the batches.",
                self._deployment,
                limit,
                names,
                filled,
                filled,
            )
        if limit != self._slots.limit:
            self._slots.resize(limit)
        if limit != self._configured or self._has_told:
            self._has_told = True
            self._tell(limit)


def _is_own(instance: Any, name: str, member: Any) -> bool:
    """Whether the instance's attribute is this member, and not one that overrides it."""
    return next((vars(base)[name] for base in type(instance).__mro__ if name in vars(base)), None) is member
