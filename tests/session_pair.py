"""A client's and a server's session joined in memory, and handlers that write down what they hear."""

from __future__ import annotations

from eagleray.base.errors import ProtocolError
from eagleray.wire.client_session import ClientSession
from eagleray.wire.handshake import Handshake
from eagleray.wire.messages import CallHead, CallKind, ErrorHead, ReplyHead
from eagleray.wire.server_session import ServerSession
from eagleray.wire.session import Session
from eagleray.wire.streams import CallHandler, ClientStream, Incoming

HEAD = CallHead(CallKind.PYTHON, "run")


class Heard(CallHandler):
    """Everything one call heard. `consume` acknowledges at once."""

    def __init__(self, *, consume: bool = True) -> None:
        self.consume = consume
        self.stream: ClientStream | None = None
        self.events: list[str] = []
        self.messages: list[bytes] = []
        self.error: ErrorHead | None = None
        self.terminal = 0

    @property
    def body(self) -> bytes:
        return b"".join(self.messages)

    def on_reply(self, head: ReplyHead, body: bytes, end: bool) -> None:
        self.events.append("reply")
        self._take(body, end)

    def on_data(self, chunk: bytes, end: bool) -> None:
        self.events.append("data")
        self._take(chunk, end)

    def on_error(self, head: ErrorHead, body: bytes) -> None:
        self.events.append("error")
        self.error = head
        self.terminal += 1

    def on_accepted(self) -> None:
        self.events.append("accepted")

    def on_writable(self) -> None:
        self.events.append("writable")

    def _take(self, body: bytes, end: bool) -> None:
        if body:
            self.messages.append(body)
        self.terminal += end
        if self.consume and not end and self.stream is not None:
            self.stream.consumed(len(body))


class Pair:
    """Both sessions and the bytes between them; nothing moves until `run` or `step`."""

    def __init__(self, client_secret: bytes | None = None, server_secret: bytes | None = None) -> None:
        self.incoming: list[Incoming] = []
        client = Handshake(server=False, secret=client_secret, nonce=b"c" * 32)
        server = Handshake(server=True, secret=server_secret, nonce=b"s" * 32)
        self.client = ClientSession(lambda: None, client)
        self.server = ServerSession(lambda: None, server, self.on_call)
        self.to_server = bytearray()
        self.to_client = bytearray()

    def on_call(self, incoming: Incoming) -> None:
        self.incoming.append(incoming)

    def call(
        self, body: bytes = b"", *, end: bool = True, handler: Heard | None = None
    ) -> tuple[Heard, ClientStream]:
        heard = handler or Heard()
        heard.stream = stream = self.client.call(HEAD, body, end, heard)
        return heard, stream

    def step(self, *, towards_server: bool, size: int | None = None) -> bool:
        """Delivers up to `size` bytes one way; False when there was nothing to deliver."""
        source, pending, target = (
            (self.client, self.to_server, self.server)
            if towards_server
            else (self.server, self.to_client, self.client)
        )
        pending += take(source)
        data = bytes(pending[:size] if size else pending)
        del pending[: len(data)]
        if data and not target.closed:
            target.receive(data)
        return bool(data)

    def run(self) -> None:
        """Delivers until nothing moves any more."""
        while self.step(towards_server=True) | self.step(towards_server=False):
            pass

    @property
    def is_idle(self) -> bool:
        return not (self.client.streams or self.server.streams or self.client.blocked or self.server.blocked)


def take(session: Session) -> bytes:
    """The bytes that the session has emitted."""
    out, session.out = session.out, []
    return b"".join(out)


def feed(session: Session, data: bytes) -> bool:
    """As a connection does: False when the bytes broke the protocol, and the session is then closed."""
    try:
        session.receive(data)
    except ProtocolError as error:
        session.close(str(error))
        return False
    return True
