"""Slots that `choose_replica` holds for calls whose arguments are still to come.

They count as calls that run. When the replica drains, whoever means to dispatch still can for `HELD_S`; then the
reservation ends, and its holder is told that the replica has gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eagleray.replica.call import Floor
    from eagleray.replica.python_call import PythonCall

NO_LIMIT = 1 << 62
"""Callers are our own processes; what they may send is bounded where the outside comes in."""

HELD_S = 2.0
"""Seconds from the beginning of a drain."""


def hold(call: PythonCall, dispatch: Callable[[bytes | bytearray], None]) -> None:
    """A slot was taken for `call`: waits for its arguments, and dispatches it then. On the user's loop."""
    reserved, incoming = call.floor.reserved, call.incoming

    def arrived(body: bytes | bytearray) -> None:
        reserved.discard(call)
        dispatch(body)

    def cancelled() -> None:
        reserved.discard(call)
        call.fail_early("cancelled")

    reserved.add(call)
    incoming.on_cancel = cancelled
    incoming.collect(NO_LIMIT, arrived)


def expire_reserved(floor: Floor) -> None:
    """Ends reservations whose arguments have not come. On the user's loop."""
    reserved, floor.reserved = floor.reserved, set()
    for call in reserved:
        call.incoming.on_cancel = None
        call.fail_early("replica_died", "The replica has been stopped.")
