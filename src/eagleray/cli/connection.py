"""How a command reaches the instance: which one, and one call to its controller at a time.

An address is that of a Unix socket on this machine, or that of a REST API anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

from eagleray.base.errors import EaglerayError, NotRunningError
from eagleray.base.settings import Settings
from eagleray.engine.detached import Places
from eagleray.rpc.client import Client
from eagleray.wire.control import Message

if TYPE_CHECKING:
    from eagleray.cli.remote_control import Control

T = TypeVar("T")

_REST = ("http://", "https://")

NOT_RUNNING = "No Eagleray instance is running here. Start one with `eagleray start`."

address_option = click.option(
    "-a",
    "--address",
    default=None,
    metavar="unix:PATH|http://HOST:PORT",
    help="Control socket or REST API of the instance; that of `eagleray start` otherwise.",
)


class NotReachedError(click.ClickException):
    """No instance answers; the message says what to do."""


def find_address(address: str | None) -> str:
    """The instance that is meant: the one given, that of the environment, or that of `eagleray start`."""
    if address is not None:
        if not address.startswith(("unix:", *_REST)):
            raise click.UsageError(
                f"--address '{address}' is not understood: expected 'unix:/path/to/controller.sock' or "
                "'http://host:port'."
            )
        return address
    try:
        settings = Settings.from_env()
        if settings.runtime_dir:
            return f"unix:{settings.runtime_dir}/controller.sock"
        return Places.find(settings).address
    except (EaglerayError, OSError) as error:
        raise click.ClickException(str(error)) from error


@contextlib.asynccontextmanager
async def connected(address: str) -> AsyncIterator[Control]:
    """A connection until the end of the block. NotReachedError when nobody is there, or goes meanwhile."""
    if address.startswith(_REST):
        from eagleray.cli.remote_control import RemoteControl  # few commands go that way

        try:
            yield RemoteControl(address)
        except NotRunningError as error:
            raise NotReachedError(str(error)) from error
        return
    try:
        client = await Client.connect(address, greeted=True)
    except (OSError, EaglerayError) as error:
        raise NotReachedError(f"{NOT_RUNNING}\n(Nobody answers at {address}: {error})") from error
    try:
        yield client
    except EaglerayError as error:
        raise NotReachedError(f"The controller at {address} was lost: {error}") from error
    finally:
        client.close()


def ask(address: str, method: str, message: Message, reply: type[T]) -> T:
    """One call, waited for."""

    async def call() -> T:
        async with connected(address) as client:
            return await client.request(method, message, reply, timeout_s=None)

    return run(call())


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end; click's errors come out of it as they are."""
    return asyncio.run(work)
