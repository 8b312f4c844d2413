"""docs/websocket.md: the program is deployed and answers as the page says; the table of limits names settings."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from tests.docs.program import serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from eagleray.http.limits import HttpLimits

PAGE = (Path(__file__).parents[2] / "docs/websocket.md").read_text()


def test_the_program_answers_as_the_page_says(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (console,) = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    command, *lines = console.strip().splitlines()
    (url,) = re.findall(r'"(ws://.*?)"', command)
    with (
        serving(tmp_path, program) as port,
        connect(url.replace("localhost:8000", f"127.0.0.1:{port}")) as client,
    ):
        for line in lines:
            if line.startswith("> "):
                client.send(line[2:])
            elif line.startswith("< "):
                assert client.recv(20) == line[2:]
            else:
                with pytest.raises(ConnectionClosed) as info:
                    client.recv(20)
                assert line == f"Connection closed: {info.value.rcvd}."


def test_the_table_of_limits_is_whole() -> None:
    named = re.findall(r"`(websocket_\w+)`", PAGE.split("## Limits")[1])
    assert sorted(named) == sorted(
        item.name for item in fields(HttpLimits) if item.name.startswith("websocket_")
    )
