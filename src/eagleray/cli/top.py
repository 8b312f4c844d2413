"""`eagleray top`: what runs, how loaded it is and how fast, once a second on a terminal, or once for a pipe.

The controller is asked for one small answer a second, over one connection. While it cannot be reached the last picture
stays, and says so; a controller that has come back is found again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.live import Live

from eagleray.base.errors import EaglerayError, NotRunningError
from eagleray.base.tasks import Tasks
from eagleray.cli.connection import NOT_RUNNING, NotReachedError, address_option, find_address, run
from eagleray.cli.interrupt import INTERRUPTED
from eagleray.cli.remote import RemoteInstance
from eagleray.cli.rendering import to_json
from eagleray.cli.top_picture import Choice, draw, scrolled
from eagleray.rpc.client import Client
from eagleray.wire.control import JsonReply
from eagleray.wire.records import Recollect

_EVERY_S = 1.0
_TIMEOUT_S = 5.0
"""A controller that is silent for longer cannot be reached; nor can `q` end us sooner while REST is silent."""

_WIDE, _HIGH = 120, 50
"""The size where there is no terminal."""

_HINT = "q quit   r replicas on or off   ↑ ↓ scroll"
_PAGE = 10

_KEY = re.compile(rb"\x1b\[[0-9;]*[A-Za-z~]|.", re.DOTALL)
"""One key of those that were pressed together."""

_QUIT = (b"q", b"Q")
_SCROLL: dict[bytes, int] = {
    b"j": 1, b"\x1b[B": 1, b"\x1b[6~": _PAGE, b" ": _PAGE,
    b"k": -1, b"\x1b[A": -1, b"\x1b[5~": -_PAGE,
}  # fmt: skip
"""Keys that scroll, and how far."""


@click.command()
@address_option
@click.option("--once", is_flag=True, help="Print one picture and end; so without a terminal.")
@click.option("--json", "as_json", is_flag=True, help="One picture as JSON, see docs/rest.md.")
def top(address: str | None, once: bool, as_json: bool) -> None:
    """Watch applications, deployments and replicas: states, rates, latencies, saturation."""
    where = find_address(address)
    feed = Feed(where)
    if as_json or once or not sys.stdout.isatty():
        overview = run(_read_twice(feed))
        if as_json:
            click.echo(to_json(overview))
        else:
            _print(overview, where)
        return
    sys.exit(run(_Screen(feed, where).show()))


class Feed:
    """Asks one instance, over the connection that it has; `close` ends that, and the next question opens another."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._client: Client | None = None
        self._remote: RemoteInstance | None = None

    async def read(self) -> dict[str, Any]:
        """The overview. NotReachedError when nobody answers, another ClickException when it is refused.

        It may be asked again after either.
        """
        if self._address.startswith("unix:"):
            return await self._read_socket()
        try:
            if self._remote is None:
                self._remote = RemoteInstance(self._address, timeout_s=_TIMEOUT_S)
            return await asyncio.to_thread(self._remote.recollect, "overview")
        except NotRunningError as error:
            raise NotReachedError(str(error)) from error
        except EaglerayError as error:
            self.close()  # its token may be another one by now
            raise click.ClickException(str(error)) from error

    async def _read_socket(self) -> dict[str, Any]:
        try:
            if self._client is None:
                self._client = await Client.connect(self._address, greeted=True)
        except (OSError, EaglerayError) as error:
            raise NotReachedError(f"{NOT_RUNNING}\n(Nobody answers at {self._address}: {error})") from error
        try:
            reply = await self._client.request("overview", Recollect(), JsonReply, timeout_s=_TIMEOUT_S)
        except EaglerayError as error:
            self.close()
            raise NotReachedError(f"The controller at {self._address} has not answered: {error}") from error
        found: dict[str, Any] = json.loads(reply.body)
        return found

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = self._remote = None


async def _read_twice(feed: Feed) -> dict[str, Any]:
    """Rates of single replicas lie between two answers."""
    try:
        await feed.read()
        await asyncio.sleep(_EVERY_S)
        return await feed.read()
    finally:
        feed.close()


def _print(overview: dict[str, Any], address: str) -> None:
    console = Console(highlight=False, width=shutil.get_terminal_size((_WIDE, _HIGH)).columns)
    try:
        console.print(draw(overview, width=console.width, address=address))
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Screen:
    """The live picture. One task asks; what it finds, keys and signals only change what is drawn next."""

    def __init__(self, feed: Feed, address: str) -> None:
        self._feed = feed
        self._address = address
        self._overview: dict[str, Any] = {}
        self._error = ""
        self._choice = Choice()
        self._console = Console(highlight=False)
        self._changed = asyncio.Event()
        self._code: int | None = None

    async def show(self) -> int:
        """Until the person leaves; the exit code. ClickException when there is nothing to show from the start."""
        tasks = Tasks("top")
        try:
            self._overview = await self._feed.read()
            with (
                self._signals(),
                Live(console=self._console, screen=True, auto_refresh=False) as live,
                _keys(self._on_keys),
            ):
                tasks.start(self._follow(), name="overview")
                while self._code is None:
                    self._changed.clear()
                    live.update(self._draw(), refresh=True)
                    await self._changed.wait()
        finally:
            await tasks.close()
            self._feed.close()
        return self._code

    def _draw(self) -> RenderableType:
        return draw(
            self._overview,
            width=self._console.width,
            height=self._console.height,
            choice=self._choice,
            address=self._address,
            error=self._error,
            hint=_HINT,
        )

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked_at = loop.time()
            try:
                self._overview = await self._feed.read()
                self._error = ""
            except click.ClickException as error:
                self._error = f"this is the last picture: {error.message.splitlines()[-1]}"
            self._changed.set()
            await asyncio.sleep(asked_at + _EVERY_S - loop.time())

    def _on_keys(self, pressed: bytes) -> None:
        for key in _KEY.findall(pressed) or [_QUIT[0]]:  # nothing: the terminal has gone
            if key in _QUIT:
                self._code = 0
            elif key == b"r":
                self._choice = Choice(replicas=not self._choice.replicas)
            else:
                by, height = _SCROLL.get(key, 0), self._console.height
                self._choice = scrolled(self._overview, self._choice, by, height=height, hint=_HINT)
        self._changed.set()

    def _leave(self) -> None:
        self._code = INTERRUPTED
        self._changed.set()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """The terminal is put back whoever ends us; one that has another size is drawn anew."""
        loop = asyncio.get_running_loop()
        handlers = {
            signal.SIGINT: self._leave,
            signal.SIGTERM: self._leave,
            signal.SIGHUP: self._leave,
            signal.SIGWINCH: self._changed.set,
        }
        for signum, handler in handlers.items():
            loop.add_signal_handler(signum, handler)
        try:
            yield
        finally:
            for signum in handlers:
                loop.remove_signal_handler(signum)


@contextlib.contextmanager
def _keys(on_keys: Callable[[bytes], None]) -> Iterator[None]:
    """Calls `on_keys` with what is pressed, at once and unseen; without a keyboard nothing is ever pressed."""
    if not sys.stdin.isatty():
        yield
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    loop = asyncio.get_running_loop()
    tty.setcbreak(fd)
    loop.add_reader(fd, lambda: on_keys(_pressed(fd)))
    try:
        yield
    finally:
        loop.remove_reader(fd)
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _pressed(fd: int) -> bytes:
    try:
        return os.read(fd, 64)
    except OSError:  # it has hung up
        return b""
