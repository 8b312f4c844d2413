"""Flow control of one stream: credit for what we send, credit that we granted, and what has to wait for it.

Only streams that are more than one frame each way have a `Flow`. Messages over `MAX_CHUNK` travel as several DATA
frames and arrive whole; big bodies of calls and replies travel and arrive in chunks, or, `gather`ed, into one buffer.
Sans-IO: frames go to the session.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from eagleray.base.errors import ProtocolError
from eagleray.wire.frames import CREDIT, DATA, END, MAX_CHUNK, MORE, Buffer

if TYPE_CHECKING:
    from eagleray.wire.session import Session

WINDOW = 1024 * 1024
"""Bytes that may be under way in one direction of one stream: 4 chunks, twice what hides a round trip on loopback."""
MAX_MESSAGE = 1 << 30
"""Bytes of one message that is put together from fragments."""
_MAX_CREDIT = 1 << 30


class Flow:
    """Credit and queue of one stream that is not unary."""

    __slots__ = (
        "blocked",
        "ending",
        "gathered",
        "granted",
        "held",
        "paid",
        "parts",
        "parts_size",
        "queue",
        "sink",
        "used",
        "window",
    )

    def __init__(self, window: int, granted: int) -> None:
        self.window = window
        """Bytes that we may still send."""
        self.granted = granted
        """Bytes that the peer may still send; `granted + held + used` is WINDOW once credit was given at all."""
        self.held = 0
        """Bytes that were received and are in use."""
        self.used = 0
        """Bytes that were used up, for which no credit was sent yet."""
        self.queue: deque[tuple[Buffer, int]] = deque()
        self.blocked = False
        self.ending = False
        self.parts: list[bytes] = []
        self.parts_size = 0
        self.paid = 0
        """Bytes of `parts` that were given back as credit already, so that a message may exceed the window."""
        self.sink: memoryview | None = None
        """All of a body that is received into one buffer, `gathered` bytes of which are here."""
        self.gathered = 0

    def enqueue(self, data: Buffer, end: bool, more: int) -> None:
        """Queues `data` in chunks; `more` is MORE when they are one message, 0 when they are a mere sequence."""
        size = len(data)
        if size > MAX_CHUNK:
            view = memoryview(data)
            start = 0
            while size - start > MAX_CHUNK:
                self.queue.append((view[start : start + MAX_CHUNK], DATA | more))
                start += MAX_CHUNK
            data = view[start:]
        if size or end:
            self.queue.append((data, DATA | END if end else DATA))
        self.ending = self.ending or end


class Stream:
    """What both ends share: sending and receiving DATA under credit."""

    __slots__ = ("closed", "connection", "flow", "id")

    connection: Session

    def __init__(self, connection: Session, stream_id: int) -> None:
        self.connection = connection
        self.id = stream_id
        self.flow: Flow | None = None
        self.closed = False

    # ---- sending ---------------------------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """Whether `send` would go out now. Once it was False, `on_writable` tells when it is True again."""
        flow = self.flow
        if flow is None or self.closed:
            return False
        if flow.queue or flow.window <= 0 or self.connection.paused:
            self._block(flow)
            return False
        return True

    def _block(self, flow: Flow) -> None:
        flow.blocked = True
        self.connection.blocked[self.id] = self

    def _send(self, flow: Flow, chunk: Buffer, end: bool, more: int = MORE) -> None:
        if flow.ending:
            return
        size = len(chunk)
        if size <= MAX_CHUNK and size <= flow.window and not flow.queue and not self.connection.paused:
            if size or end:
                flow.window -= size
                flow.ending = end
                self.connection.emit_data(DATA | END if end else DATA, self.id, chunk)
                if end:
                    self.sent_end()
            return
        flow.enqueue(chunk, end, more)
        self.pump()

    def pump(self) -> None:
        """Sends what credit and the transport allow; reports `on_writable` when all is out that had to wait."""
        flow = self.flow
        if flow is None or self.closed:
            return
        queue = flow.queue
        while queue:
            chunk, meta = queue[0]
            size = len(chunk)
            if size and (size > flow.window or self.connection.paused):
                self._block(flow)
                return
            queue.popleft()
            flow.window -= size
            self.connection.emit_data(meta, self.id, chunk)
            if meta & END:
                self.sent_end()
                return
        if flow.blocked and flow.window > 0 and not self.connection.paused:
            flow.blocked = False
            self.connection.blocked.pop(self.id, None)
            self.became_writable()

    def credit(self, size: int) -> None:
        """The peer allows `size` bytes more."""
        flow = self.flow
        if flow is None:
            return
        flow.window += size
        if flow.window > _MAX_CREDIT:
            raise ProtocolError(f"credit of stream {self.id} overflows")
        self.pump()

    def sent_end(self) -> None:
        """Our direction has ended."""
        self.connection.blocked.pop(self.id, None)

    def became_writable(self) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        """A callback of ours has raised: give the call up."""
        raise NotImplementedError

    # ---- receiving -------------------------------------------------------------------------------------------

    def gather(self, size: int, first: bytes) -> bytearray:
        """Receives a body of `size` bytes, which begins with `first`, into the returned buffer.

        It is whole when the callback for data is called, without data, with `end`. A body that turns out longer or
        shorter breaks the protocol.
        """
        flow = self.flow
        assert flow is not None
        if len(first) >= size:
            raise ProtocolError(f"stream {self.id} announces a body of {size} bytes after {len(first)}")
        whole = bytearray(size)
        flow.sink = memoryview(whole)
        flow.sink[: len(first)] = first
        flow.gathered = len(first)
        self.consumed(len(first))
        return whole

    def destination(self, size: int) -> memoryview | None:
        """Where the next `size` bytes of data belong, if they may come and are gathered."""
        flow = self.flow
        if flow is None or flow.sink is None or size > flow.granted or size > len(flow.sink) - flow.gathered:
            return None
        return flow.sink[flow.gathered : flow.gathered + size]

    def _gathered(self, flow: Flow, sink: memoryview, chunk: bytes, placed: int, end: bool) -> bytes | None:
        size = len(chunk) + placed
        start = flow.gathered
        flow.gathered = start + size
        if flow.gathered > len(sink) or end != (flow.gathered == len(sink)):
            raise ProtocolError(f"stream {self.id} did not end after the {len(sink)} bytes that it announced")
        if chunk:
            sink[start : start + size] = chunk
        if not end:
            self.consumed(size)
            return None
        flow.sink = None
        return b""

    def takes(self, size: int) -> bool:
        """Books `size` bytes, as `received` does, if they are a whole message and within the credit."""
        flow = self.flow
        if flow is None or flow.sink is not None or flow.parts or size > flow.granted:
            return False
        flow.granted -= size
        flow.held += size
        return True

    def received(self, size: int) -> Flow:
        """Books `size` bytes against the credit that we gave. Raises ProtocolError."""
        flow = self.flow
        if flow is None or size > flow.granted:
            raise ProtocolError(f"stream {self.id} received {size} bytes beyond its window")
        flow.granted -= size
        flow.held += size
        return flow

    def assemble(self, flow: Flow, chunk: bytes, placed: int, more: bool, end: bool) -> bytes | None:
        """Puts fragments together; None while the message is not whole. `placed` bytes are at their destination."""
        if flow.sink is not None:
            return self._gathered(flow, flow.sink, chunk, placed, end)
        if not more and not flow.parts:
            return chunk
        flow.parts.append(chunk)
        flow.parts_size += len(chunk)
        if flow.parts_size > MAX_MESSAGE:
            raise ProtocolError(f"a message of stream {self.id} is larger than {MAX_MESSAGE} bytes")
        if more:
            self._prepay(flow)
            return None
        message = b"".join(flow.parts)
        flow.parts = []
        flow.parts_size = flow.paid = 0
        return message

    def _prepay(self, flow: Flow) -> None:
        """Lets the sender finish a message that fills the window, once its owner has nothing else to consume."""
        unpaid = flow.parts_size - flow.paid
        if flow.granted < MAX_CHUNK and unpaid and flow.held == unpaid:
            flow.paid += unpaid
            self.consumed(unpaid)

    def consumed(self, size: int) -> None:
        """`size` bytes that were received have been used: the peer may send as many more."""
        flow = self.flow
        if flow is None or self.closed:
            return
        # Less may be held: bytes that came with the CALL need no credit, and those of a huge message are prepaid.
        size = min(size, flow.held)
        flow.held -= size
        flow.used += size
        if flow.used >= WINDOW // 2:
            size, flow.used = flow.used, 0
            self._grant(flow, size)
        if flow.parts:
            self._prepay(flow)

    def _grant(self, flow: Flow, size: int) -> None:
        flow.granted += size
        self.connection.emit(CREDIT, self.id, b"", size.to_bytes(4, "little"))
