"""HTTP/1.1 answers out of bytes, as a load test reads them: status, size and whether the connection can go on.

Sans-IO and suspicious: whatever a server sends either completes an answer or raises `BadAnswerError`, and memory stays
bounded. Bodies are counted and dropped unless they are asked for. One request at a time: bytes behind an answer are a
fault of the server.
"""

from __future__ import annotations

MAX_HEAD_BYTES = 64 * 1024
"""More is no answer. Also the bound of a chunk's size line and of trailers."""

_HEAD, _LENGTH, _CHUNK_SIZE, _CHUNK, _CHUNK_END, _TRAILER, _UNTIL_CLOSE = range(7)
_NO_BODY = (204, 304)
_MOST_DIGITS = 15
"""Of a length: petabytes are nonsense."""


class BadAnswerError(Exception):
    """What has come is not HTTP; the text says what is wrong."""


class AnswerReader:
    """Reads the answers of one connection. `begin` before each request, then `feed` until it returns True."""

    __slots__ = ("_buffer", "_left", "_stage", "_without_body", "body", "head", "is_last", "size", "status")

    def __init__(self, *, keep_body: bool = False) -> None:
        self.body: bytearray | None = bytearray() if keep_body else None
        self.begin()

    def begin(self, *, head_only: bool = False) -> None:
        """Expects the next answer; `head_only`: it is that to a HEAD."""
        self.status = 0
        self.head = b""
        """In lower case, where bodies are kept."""
        self.size = 0
        """Bytes of the body so far."""
        self.is_last = False
        """The connection carries no more after this answer."""
        self._without_body = head_only
        self._stage = _HEAD
        self._left = 0
        self._buffer = b""
        if self.body:
            self.body = bytearray()

    @property
    def has_begun(self) -> bool:
        """Whether any of the answer is here."""
        return self._stage != _HEAD or bool(self._buffer)

    def feed(self, data: bytes) -> bool:
        """Takes what has come; True: the answer is complete. Raises BadAnswerError."""
        if self._stage == _HEAD:
            if self._buffer:
                data, self._buffer = self._buffer + data, b""
            while self._stage == _HEAD:  # more than once when there is a 1xx
                end = data.find(b"\r\n\r\n")
                if end < 0:
                    self._keep(data)
                    return False
                if end > MAX_HEAD_BYTES:
                    raise BadAnswerError("a head without end")
                self._read_head(data[: end + 2].lower())
                data = data[end + 4 :]
        if self._stage == _LENGTH:
            return self._take_rest(data)
        if self._stage == _UNTIL_CLOSE:
            self._take(data)
            return False
        return self._feed_chunks(data)

    def end(self) -> bool:
        """The server has closed; whether that completes the answer."""
        return self._stage == _UNTIL_CLOSE

    def _keep(self, rest: bytes) -> None:
        if len(rest) > MAX_HEAD_BYTES:
            raise BadAnswerError("a line or head without end")
        if self._stage == _HEAD and rest[:5].upper() != b"HTTP/"[: len(rest)]:
            raise BadAnswerError("no HTTP status line")
        self._buffer = rest

    def _read_head(self, head: bytes) -> None:
        """`head` in lower case, up to the end of its last line."""
        code = head[9:12]
        if head[:7] != b"http/1." or head[8:9] != b" " or not code.isdigit() or head[12:13] not in b" \r":
            raise BadAnswerError("no HTTP status line")
        self.status = status = int(code)
        if self.body is not None:
            self.head = head
        if status < 200:
            if status < 100 or status == 101:
                raise BadAnswerError(f"status {status}, which nobody has asked for")
            return
        connection = _value(head, b"\r\nconnection:")
        self.is_last = connection == b"close" or (head[7:8] == b"0" and connection != b"keep-alive")
        if self._without_body or status in _NO_BODY:
            self._stage = _LENGTH
        elif (coding := _value(head, b"\r\ntransfer-encoding:")) is not None:
            if not coding.endswith(b"chunked"):
                raise BadAnswerError("a transfer coding other than chunked")
            self._stage = _CHUNK_SIZE
        elif (length := _value(head, b"\r\ncontent-length:")) is not None:
            if not length.isdigit() or len(length) > _MOST_DIGITS:
                raise BadAnswerError("a content-length that is no number")
            self._stage = _LENGTH
            self._left = int(length)
        else:
            self._stage = _UNTIL_CLOSE
            self.is_last = True

    def _take(self, data: bytes) -> None:
        self.size += len(data)
        if self.body is not None:
            self.body += data

    def _take_rest(self, data: bytes) -> bool:
        left = self._left
        if len(data) > left:
            self.is_last = True  # what follows has not been asked for
            data = data[:left]
        self._left = left - len(data)
        self._take(data)
        return self._left == 0

    def _feed_chunks(self, data: bytes) -> bool:
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        at = 0
        while at < len(data):
            if self._stage == _CHUNK:
                piece = data[at : at + self._left]
                self._take(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left == 0:
                    self._stage = _CHUNK_END
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                self._keep(data[at:])
                return False
            line = data[at:end]
            at = end + 2
            if self._read_line(line):
                self.is_last = self.is_last or at < len(data)
                return True
        return False

    def _read_line(self, line: bytes) -> bool:
        if self._stage == _CHUNK_END:
            if line:
                raise BadAnswerError("a chunk longer than it says")
            self._stage = _CHUNK_SIZE
        elif self._stage == _TRAILER:
            self._left += len(line)
            if self._left > MAX_HEAD_BYTES:
                raise BadAnswerError("trailers without end")
            return not line
        else:
            digits = line.partition(b";")[0].strip()
            try:
                self._left = int(digits, 16) if digits.isalnum() and len(digits) <= _MOST_DIGITS else -1
            except ValueError:
                self._left = -1
            if self._left < 0:
                raise BadAnswerError("a chunk without a size")
            self._stage = _CHUNK if self._left else _TRAILER
        return False


def _value(head: bytes, name: bytes) -> bytes | None:
    at = head.find(name)
    if at < 0:
        return None
    at += len(name)
    return head[at : head.find(b"\r\n", at)].strip()
