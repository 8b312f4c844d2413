"""The calling side of a connection: data-plane calls by callback, control-plane calls by await.

`call` costs one object and one frame: no task, no future. `request` and `subscribe` are the same calls for people
who can wait. A connection that ends gives every open call its terminal callback, and is never opened again.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

import msgspec

from eagleray.base.errors import (
    ConfigError,
    DeployError,
    EaglerayError,
    NotRunningError,
    ProtocolError,
    ReplicaDiedError,
    RequestCancelledError,
    RequestTimeoutError,
)
from eagleray.rpc.connection import HANDSHAKE_TIMEOUT_S, Connection, is_same_user, widen
from eagleray.rpc.memory import SharedMemory
from eagleray.rpc.unix import connect_over
from eagleray.wire.client_session import ClientSession
from eagleray.wire.control import Message, decode, encode
from eagleray.wire.handshake import NONCE_SIZE, Handshake
from eagleray.wire.messages import DRAINING, CallHead, CallKind, ErrorHead, ReplicaReport, ReplyHead
from eagleray.wire.streams import CallHandler, ClientStream

__all__ = ["CallHandler", "Client", "ClientStream"]

T = TypeVar("T")
Notice = Callable[["Client"], None]

_BACKLOG_RETRY_S = 0.005
"""Seconds before a Unix connect is repeated that found the backlog full: the kernel offers no event for it."""
_ERRORS: dict[str, type[EaglerayError]] = {
    kind.code: kind
    for kind in (ConfigError, DeployError, NotRunningError, ReplicaDiedError, RequestTimeoutError)
}


class Client:
    """A connection to one server, made by `connect`. Belongs to the loop that it was made on."""

    def __init__(self, address: str, secret: bytes | None, on_close: Notice | None) -> None:
        self.address = address
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._connection = Connection(self._ended)
        self._connection.peer = address
        self.ping, self.probe = self._connection.ping, self._connection.probe
        nonce = os.urandom(NONCE_SIZE) if secret is not None else b""
        handshake = Handshake(server=False, secret=secret, nonce=nonce)
        self._session = ClientSession(self._connection.wake, handshake, self._connection.lock)
        self._connection.attach(self._session)

    @classmethod
    async def connect(
        cls,
        address: str,
        *,
        secret: bytes | None = None,
        on_close: Notice | None = None,
        on_room: Notice | None = None,
        on_goaway: Notice | None = None,
        on_limit: Callable[[int], None] | None = None,
        on_report: Callable[[ReplicaReport], None] | None = None,
        greeted: bool = False,
        shared: bool = False,
        memory: SharedMemory | None = None,
        dial: Callable[[str, asyncio.BaseProtocol], None] | None = None,
    ) -> Client:
        """Connects to `unix:/path` or `tcp:host:port` (which needs the `secret` that the server has).

        `on_close` is called once when the connection has ended, also by `close()`; `on_room`, `on_goaway` and
        `on_limit` (with the number of calls that run there at once) and `on_report` when the server says so. Over a
        Unix socket it returns at once, although the server may accept later or never; `greeted` waits until it has
        said HELLO, as over TCP. Raises OSError, or ProtocolError when the peer is not who it should be or ends the
        connection before. `shared` lets other threads use `call_alone`. Large values go through `memory`, if it is a
        Unix socket. `dial` gives the protocol a transport in its own way (`rpc.in_process`).
        """
        kind, _, rest = address.partition(":")
        if kind == "unix" or dial is not None:
            client = cls(address, None, on_close)
        elif kind == "tcp" and secret:
            client = cls(address, secret, on_close)
        else:
            wanted = "unix:/path, or tcp:host:port with a secret"
            raise ConfigError(f"cannot connect to '{address}': use {wanted}")
        client._connection.shared = shared
        session = client._session
        if on_room is not None:
            session.on_room = lambda: on_room(client)
        if on_goaway is not None:
            session.on_goaway = lambda: on_goaway(client)
        session.on_limit = on_limit
        session.on_report = on_report
        if dial is not None:
            await _connect_by(dial, client)
        elif kind == "unix":
            if memory is not None:
                client._connection.share(memory)
            await client._connect_unix(rest, greeted)
        else:
            await client._connect_tcp(rest)
        return client

    async def _connect_unix(self, path: str, greeted: bool) -> None:
        ready = self._hello() if greeted else None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            widen(sock)
            while True:
                try:
                    sock.connect(path)
                    break
                except BlockingIOError:
                    await asyncio.sleep(_BACKLOG_RETRY_S)
            if not is_same_user(sock):
                raise ProtocolError(f"the server at {self.address} belongs to another user")
            await connect_over(sock, lambda: self._connection)
        except BaseException:
            sock.close()
            self._abandon()
            raise
        if ready is not None:
            await self._greeting(ready)

    async def _connect_tcp(self, host_and_port: str) -> None:
        host, _, port = host_and_port.rpartition(":")
        # Only the proof makes it a server of ours; nobody gets this client before.
        ready = self._hello()
        connection = self._connection
        connection.handshake_required = True
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                transport, _ = await self._loop.create_connection(
                    lambda: connection, host.strip("[]"), int(port)
                )
                transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self._greeting(ready)
        except BaseException:
            self._abandon()
            raise

    def _hello(self) -> asyncio.Future[None]:
        """Is done when the server's HELLO has come."""
        ready: asyncio.Future[None] = self._loop.create_future()
        was_ready = self._session.on_ready

        def on_ready() -> None:
            if was_ready is not None:
                was_ready()
            if not ready.done():
                ready.set_result(None)

        self._session.on_ready = on_ready
        return ready

    async def _greeting(self, ready: asyncio.Future[None]) -> None:
        try:
            await asyncio.wait((ready, self._connection.lost), return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                raise ProtocolError(f"no connection to {self.address}: {self._session.reason}")
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """Nobody will get this client, so nobody hears of its end."""
        self._on_close = None
        self.close()

    # ---- calls -----------------------------------------------------------------------------------------------

    def call(
        self, head: CallHead, body: bytes = b"", *, end: bool = True, handler: CallHandler
    ) -> ClientStream:
        """Sends a call; `handler` hears what becomes of it. Never blocks and never raises.

        With `end` a body of any size is complete and is sent as the callee takes it; without, it is the first
        chunk of an upload. A call that cannot be sent gets its `on_error` at the next turn of the loop, with code
        `draining` when the connection has ended: nothing was sent, so another replica may be tried.
        """
        session = self._session
        if session.closed:
            return self._refuse(handler, ErrorHead(DRAINING, f"The connection to {self.address} has ended."))
        try:
            return session.call(head, body, end, handler)
        except ValueError as error:
            return self._refuse(handler, ErrorHead("config", str(error)))

    def call_alone(
        self, head: CallHead, body: bytes, handler: CallHandler, opened: Callable[[ClientStream], None]
    ) -> bool:
        """From any thread: sends a small call when no other is open, without waking the loop.

        `opened` gets the stream before anything is sent. False: nothing was done, the loop's thread is to `call`.
        """
        session = self._session
        if session.streams or not self._connection.shared:
            return False
        try:
            with session.lock:
                call = session.open_alone(head, body, handler)
                if call is None:
                    return False
                opened(call[0])
                self._connection.write_now(call[1])
        except BaseException:  # Ctrl-C: nobody knows what was sent
            self._connection.fail_from_thread("a call was interrupted while it was sent")
            raise
        return True

    def _refuse(self, handler: CallHandler, error: ErrorHead) -> ClientStream:
        stream = ClientStream(self._session, 0, handler)
        stream.closed = True
        self._loop.call_soon(handler.on_error, error, b"")
        return stream

    async def request(self, method: str, message: Message, reply: type[T], *, timeout_s: float | None) -> T:
        """Calls a control-plane method and waits for its answer. Raises what the other side raised, as EaglerayError.

        Giving up (time-out, cancellation of the waiting task) cancels the call there.
        """
        waiting = _Request(self._loop, self.address, method)
        head = CallHead(CallKind.CONTROL, method)
        waiting.stream = stream = self.call(head, encode(message), handler=waiting)
        try:
            async with asyncio.timeout(timeout_s):
                body = await waiting.done
        except TimeoutError:
            raise RequestTimeoutError(
                f"{self.address} did not answer '{method}' within {timeout_s:g} s"
            ) from None
        finally:
            stream.cancel()
        try:
            return decode(body, reply)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"{self.address} answered '{method}' with something else: {error}") from None

    async def subscribe(self, method: str, message: Message) -> AsyncGenerator[bytes, None]:
        """Calls a control-plane method that streams, and yields its messages. Closing the generator cancels it.

        The call is sent when the first message is asked for.

        Ends when the other side ends the stream; raises EaglerayError when it fails or the connection is lost.
        """
        reading = _Subscription(self.address, method)
        reading.stream = stream = self.call(
            CallHead(CallKind.CONTROL, method), encode(message), handler=reading
        )
        try:
            while True:
                while reading.chunks:
                    chunk = reading.chunks.popleft()
                    stream.consumed(len(chunk))
                    yield chunk
                if reading.ended:
                    break
                reading.changed.clear()
                await reading.changed.wait()
            if reading.error is not None:
                raise reading.error
        finally:
            stream.cancel()

    # ---- the end ---------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the connection has ended, from either side."""
        return self._session.closed

    def close(self) -> None:
        """Ends the connection: open calls get `on_error` before this returns. Idempotent."""
        self._connection.close()

    async def wait_closed(self) -> None:
        """Returns once the socket is closed."""
        await self._connection.wait_closed()

    def _ended(self) -> None:
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(self)


async def _connect_by(dial: Callable[[str, asyncio.BaseProtocol], None], client: Client) -> None:
    ready = client._hello()
    try:
        dial(client.address, client._connection)
    except BaseException:
        client._abandon()
        raise
    await client._greeting(ready)


class _Request(CallHandler):
    """Turns the callbacks of one call into a future of its whole body."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: str, method: str) -> None:
        self.done: asyncio.Future[bytes] = loop.create_future()
        self.stream: ClientStream | None = None
        self._address = address
        self._method = method
        self._parts: list[bytes] = []

    def on_reply(self, head: ReplyHead, body: bytes, end: bool) -> None:
        self.on_data(body, end)

    def on_data(self, chunk: bytes, end: bool) -> None:
        self._parts.append(chunk)
        if not end:
            assert self.stream is not None
            self.stream.consumed(len(chunk))
        elif not self.done.done():
            self.done.set_result(b"".join(self._parts))

    def on_error(self, head: ErrorHead, body: bytes) -> None:
        if not self.done.done():
            self.done.set_exception(error_of(head, self._address, self._method))


class _Subscription(CallHandler):
    """Keeps the messages of one stream until they are asked for; credit bounds how many."""

    def __init__(self, address: str, method: str) -> None:
        self.chunks: deque[bytes] = deque()
        self.changed = asyncio.Event()
        self.ended = False
        self.error: EaglerayError | None = None
        self.stream: ClientStream | None = None
        self._address = address
        self._method = method

    def on_reply(self, head: ReplyHead, body: bytes, end: bool) -> None:
        self.on_data(body, end)

    def on_data(self, chunk: bytes, end: bool) -> None:
        if chunk:
            self.chunks.append(chunk)
        self.ended = self.ended or end
        self.changed.set()

    def on_error(self, head: ErrorHead, body: bytes) -> None:
        self.error = error_of(head, self._address, self._method)
        self.ended = True
        self.changed.set()


def error_of(head: ErrorHead, address: str, method: str) -> EaglerayError:
    """What a failed control-plane call raises at its caller."""
    if head.code == "cancelled":
        return RequestCancelledError()
    message = head.message or f"'{method}' failed with code '{head.code}'"
    if head.code in (DRAINING, "replica_died"):
        return ReplicaDiedError(f"{address} did not answer '{method}': {message}")
    return _ERRORS.get(head.code, EaglerayError)(message)
