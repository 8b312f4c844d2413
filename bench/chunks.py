"""Time to the first byte of a streamed body, over one kept-alive connection."""

from __future__ import annotations

import socket
import time

from bench.load import LoadError, Request

_END = b"\r\n0\r\n\r\n"


def first_chunk_ms(port: int, request: Request, seconds: float) -> float:
    """Median milliseconds from sending the request to the first byte of the body. Raises LoadError."""
    sent = f"{request.method} {request.path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    times: list[float] = []
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until or len(times) < 10:
            began = time.perf_counter()
            sock.sendall(sent)
            times.append(_read_response(sock, began))
    times.sort()
    return times[len(times) // 2] * 1000


def _read_response(sock: socket.socket, began: float) -> float:
    head = b""
    while not head.partition(b"\r\n\r\n")[2]:
        data = sock.recv(1 << 16)
        if not data:
            raise LoadError("the server closed the connection before the body")
        head += data
    first = time.perf_counter() - began
    if not head.startswith(b"HTTP/1.1 200") or b"chunked" not in head.lower():
        raise LoadError(f"not a stream: {head[:200]!r}")
    tail = head[-len(_END) :]
    while tail != _END:
        data = sock.recv(1 << 16)
        if not data:
            raise LoadError("the server closed the connection within the body")
        tail = (tail + data)[-len(_END) :]
    return first
