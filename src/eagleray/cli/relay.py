"""The logs of an instance on the terminal that it was started from, as a container's runtime wants them.

They are read from their files, so that an output that nobody reads holds up nothing but this thread.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
import time
from collections.abc import Iterator

from eagleray.base.log_files import list_files
from eagleray.base.settings import Settings
from eagleray.cli.log_lines import LATE_S, LOOK_S, Follower

_END_S = 5.0
"""Seconds for the rest to be taken by whoever reads standard error, or does not."""

_ALL = re.compile(r".*\.log")


@contextlib.contextmanager
def relayed(logs_dir: str) -> Iterator[None]:
    """Until the end of the block, and then the rest, all lines go to standard error where that is asked for."""
    if not Settings.from_env().log_to_stderr:
        yield
        return
    ended = threading.Event()
    late_s = [0.0]
    follower = Follower(lambda: list_files(logs_dir, _ALL), lambda: time.time() + late_s[0])
    follower.begin(0)

    def relay() -> None:
        while not ended.wait(LOOK_S):
            _write(follower.look())
        late_s[0] = LATE_S  # nothing comes any more that could be earlier
        _write(follower.look())
        follower.close()

    thread = threading.Thread(target=relay, name="log relay", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_END_S)


def _write(lines: list[bytes]) -> None:
    if lines:
        sys.stderr.buffer.writelines(lines)
        sys.stderr.buffer.flush()
