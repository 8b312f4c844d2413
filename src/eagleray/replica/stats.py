"""What the user's `record_autoscaling_stats` says: numbers by name, for autoscaling policies."""

from __future__ import annotations

import asyncio
import inspect

from eagleray.base.threads import run_in_new_thread
from eagleray.replica.call import Floor
from eagleray.replica.errors import trimmed_text
from eagleray.replica.user_loop import UserLoop
from eagleray.wire.scaling import LoadStats


async def load_stats(user_loop: UserLoop, floor: Floor | None) -> LoadStats:
    """Asks the hook on the user's loop, a sync one on a thread; none at all has nothing to say."""
    hook = getattr(floor.user.instance if floor is not None else None, "record_autoscaling_stats", None)
    if not callable(hook):
        return LoadStats()

    async def ask() -> LoadStats:
        try:
            found = await hook() if inspect.iscoroutinefunction(hook) else await run_in_new_thread(hook)
            return LoadStats(values={str(name): float(value) for name, value in found.items()})
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # user code may raise anything
            return LoadStats(error=trimmed_text(error))

    return await user_loop.run(ask())
