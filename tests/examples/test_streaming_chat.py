"""The chat example, as its readers run it: words come one by one, and stop when the client goes."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator

import pytest
from tests.fault.instance import Instance, serving
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def chat() -> Iterator[Instance]:
    with serving("app:app", folder="examples/streaming_chat") as instance:
        yield instance


def open_stream(chat: Instance, query: str) -> socket.socket:
    sock = socket.create_connection((chat.host, chat.port), timeout=30)
    sock.sendall(f"GET /chat?{query} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    return sock


def busy(chat: Instance) -> int:
    with urllib.request.urlopen(f"http://{chat.host}:{chat.port}/busy", timeout=30) as reply:
        return int(reply.read())


def test_the_answer_comes_word_by_word(chat: Instance) -> None:
    with open_stream(chat, "prompt=a+function+is&limit=5&pace_s=30") as sock:
        lines = sock.makefile("rb")
        events = (line for line in lines if line.startswith(b"data: "))
        word = json.loads(next(events)[6:])["word"]
        # The second word is half a minute away: the first one has not waited for it.
        assert word and busy(chat) == 1
        lines.close()
    wait_until(lambda: busy(chat) == 0, what="the writer has stopped, since its reader has gone")


def test_the_same_seed_gives_the_same_answer(chat: Instance) -> None:
    def words() -> list[str]:
        url = f"http://{chat.host}:{chat.port}/chat?prompt=the+import+statement&seed=7&pace_s=0"
        with urllib.request.urlopen(url, timeout=30) as reply:
            assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
            events = [line[6:].strip() for line in reply if line.startswith(b"data: ")]
        assert events.pop() == b"[DONE]"
        return [json.loads(event)["word"] for event in events]

    first = words()
    assert first == words() and 3 <= len(first) <= 60
