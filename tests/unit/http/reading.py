"""Feeds bytes to a RequestReader and tells what came out, in a form that tests can compare."""

from __future__ import annotations

from eagleray.http.limits import HttpLimits
from eagleray.http.protocol import RequestReader
from eagleray.http.request import HttpRefused, Request


class Owner:
    """A connection that has begun nothing: bodies gather in the reader."""

    def on_partial_body(self) -> None:
        pass

    def on_upload_end(self, request: Request) -> None:
        raise AssertionError("no upload was begun")

    def on_upload_refused(self, request: Request, error: HttpRefused) -> None:
        raise AssertionError("no upload was begun")


def read(*pieces: bytes, **limits: float) -> list[Request | HttpRefused]:
    """Everything that is ready after the last piece."""
    reader = RequestReader(Owner(), HttpLimits(**limits))  # type: ignore[arg-type]
    entries: list[Request | HttpRefused] = []
    for piece in pieces:
        reader.feed(piece)
        while reader.ready or (reader.rest and not reader.switching):
            while reader.ready:
                entries.append(reader.ready.popleft())
            if reader.rest and not reader.switching:
                reader.feed_rest()
    return entries


def outcome(*pieces: bytes, **limits: float) -> list[tuple[str, ...] | int]:
    """(method, path, body) of each request, and the status of a refusal."""
    return [
        entry.status
        if isinstance(entry, HttpRefused)
        else (entry.method, entry.path, entry.body.decode("latin-1"))
        for entry in read(*pieces, **limits)
    ]
