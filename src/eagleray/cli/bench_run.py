"""Loads on an event loop of their own: shows how it goes, and ends early on Ctrl-C with what was measured.

Progress goes to standard error: the report may be piped.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop

from eagleray.base.errors import ConfigError
from eagleray.cli.bench_progress import progress
from eagleray.http.listen import raise_descriptor_limit
from eagleray.loadtest.hunt import Hunt, Trial
from eagleray.loadtest.ledger import Line
from eagleray.loadtest.load import Load
from eagleray.loadtest.plan import Message, Objective, Plan, Url
from eagleray.loadtest.report import summary
from eagleray.loadtest.run import find_server
from eagleray.loadtest.verdict import trial_text, verdict

_LINES = 1000
"""Of the ledger, that are written together."""


def run(url: Url, message: Message, plan: Plan, ledger: str | None) -> tuple[dict[str, Any], bool]:
    """The report, and whether it was interrupted. Raises EaglerayError when there is nothing to measure."""
    return uvloop.run(_run(url, message, plan, ledger))


async def _run(url: Url, message: Message, plan: Plan, ledger: str | None) -> tuple[dict[str, Any], bool]:
    request = message.encode(url, keep_alive=plan.keep_alive)
    raise_descriptor_limit()
    address = await find_server(url)
    with contextlib.ExitStack() as stack:
        shown = stack.enter_context(progress())
        file = stack.enter_context(_LedgerFile.open(ledger)) if ledger else None
        shown.begin(plan)
        load = Load(
            plan, address, request, on_tick=shown.tick, on_line=file.note if file is not None else None
        )
        if file is not None:
            file.load = load
        interrupted = _stop_on_signals(load.stop)
        tally = await load.run()
    return summary(url, message, plan, tally), interrupted.is_set()


def search(url: Url, message: Message, plan: Plan, objective: Objective) -> tuple[dict[str, Any], bool]:
    """The same for a search of the highest rate."""
    return uvloop.run(_search(url, message, plan, objective))


async def _search(
    url: Url, message: Message, plan: Plan, objective: Objective
) -> tuple[dict[str, Any], bool]:
    request = message.encode(url, keep_alive=plan.keep_alive)
    raise_descriptor_limit()
    address = await find_server(url)
    with progress() as shown:

        def tell(trial: Trial) -> None:
            shown.say(trial_text(trial, objective))

        hunt = Hunt(plan, objective, address, request, on_tick=shown.tick, on_trial=tell, on_rate=shown.begin)
        interrupted = _stop_on_signals(hunt.stop)
        await hunt.run()
    return verdict(url, message, objective, hunt), interrupted.is_set()


def _stop_on_signals(stop: Callable[[], None]) -> asyncio.Event:
    """Set when there was one. A second one ends the command at once."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        interrupted.set()
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(signum)
        stop()

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, interrupt)
    return interrupted


class _LedgerFile:
    """Writes lines as they come. A disk that takes no more ends the load, not with a trace."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w", encoding="ascii")
        self._lines: list[str] = []
        self._error: OSError | None = None
        self.load: Load | None = None

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: str) -> Iterator[_LedgerFile]:
        """Raises ConfigError, at the end too, when it cannot be written."""
        try:
            ledger = cls(Path(path))
        except OSError as error:
            raise ConfigError(f"The ledger cannot be written: {error}.") from None
        try:
            yield ledger
        finally:
            ledger._write()
            with contextlib.suppress(OSError):
                ledger._file.close()
        if ledger._error is not None:
            raise ConfigError(f"The ledger {path} could not be written to its end: {ledger._error}.")

    def note(self, line: Line) -> None:
        """Of a load that has begun."""
        assert self.load is not None and self.load.began != math.inf
        self._lines.append(line.to_json(self.load.began))
        if len(self._lines) >= _LINES:
            self._write()

    def _write(self) -> None:
        lines, self._lines = self._lines, []
        if self._error is not None:
            return
        try:
            self._file.write("".join(lines))
            self._file.flush()
        except OSError as error:
            self._error = error
            if self.load is not None:
                self.load.stop()
