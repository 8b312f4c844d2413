"""Awaiting a blocking function in a thread of its own, for what is rare and must not wait for anything else.

Unlike those of `concurrent.futures`, the threads are daemons: a function that never returns must not keep the process
alive.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any


async def run_in_new_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Awaits `function(*args)` in a thread of its own: for hooks, which are rare and must not wait for calls.

    Whatever it raises, SystemExit included, is raised here.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
    context = contextvars.copy_context()

    def finish(result: Any, error: BaseException | None) -> None:
        if not done.done():
            done.set_result((result, error))

    def work() -> None:
        result, error = None, None
        try:
            result = context.run(function, *args)
        except BaseException as raised:  # the root of this thread: all goes to whoever awaits
            error = raised
        try:
            loop.call_soon_threadsafe(finish, result, error)
        except RuntimeError:
            pass  # the loop has ended meanwhile: nobody waits

    threading.Thread(target=work, name="user-hook", daemon=True).start()
    result, error = await done
    if error is not None:
        raise error
    return result
