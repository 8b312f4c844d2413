"""The route table x every method x everything that must not get in: nobody does, and nothing happens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.admin_server import ADMIN, JSON, READER, Serving, serving
from tests.waiting import wait_until

from eagleray.admin.routes import ROUTES
from eagleray.admin.server import FAILURE_DELAY_S, MAX_CONNECTIONS
from eagleray.admin.tokens import Role

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
PATHS = sorted({route.path for route in ROUTES} | {"/", "/api", "/api/serve/applications/a/b", "/%2e%2e/x"})
BODY = '{"applications": []}'

INTRUDERS = {
    "no token": ({}, {401}),
    "empty token": ({"authorization": "Bearer "}, {401}),
    "other scheme": ({"authorization": "Basic " + "a" * 43}, {401}),
    "wrong token": ({"authorization": "Bearer " + "b" * 43}, {403}),
    "token of another length": ({"x-ray-authorization": "Bearer a"}, {403}),
    "token in a cookie": ({"cookie": "token=" + "a" * 43}, {401}),
    "rebinding Host": ({**ADMIN, "host": "evil.example:8265"}, {421}),
    "Host that looks like ours": ({**ADMIN, "host": "127.0.0.1.evil.example"}, {421}),
    "another machine's address": ({**ADMIN, "host": "10.0.0.1:8265"}, {421}),
    "foreign Origin": ({**ADMIN, "origin": "http://evil.example"}, {403}),
    "null Origin": ({**ADMIN, "origin": "null"}, {403}),
    "Origin of another port": ({**ADMIN, "origin": "http://127.0.0.1:1"}, {403}),
    "foreign page": ({**ADMIN, "sec-fetch-site": "cross-site"}, {403}),
}
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "text/json")


async def until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_until, condition)


def concrete(path: str) -> str:
    for variable in ("{name}", "{app}", "{deployment}"):
        path = path.replace(variable, "one")
    return path


@pytest.mark.parametrize("intruder", INTRUDERS)
def test_nobody_gets_in(intruder: str, tmp_path: Path) -> None:
    headers, statuses = INTRUDERS[intruder]

    async def main() -> None:
        async with serving(tmp_path, applications={"one": {}}) as server:
            for path in PATHS:
                for method in METHODS:
                    answer = await server.ask(method, concrete(path), {**JSON, **headers}, BODY)
                    assert answer.status in statuses, f"{method} {path}: {answer}"
                    assert "a" * 43 not in answer.text
            assert server.operations.calls == []
            assert "a" * 43 not in server.audit_path.read_text()

    asyncio.run(main())


def test_a_reader_changes_nothing_and_reads_everything(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, applications={"one": {}}) as server:
            for route in ROUTES:
                answer = await server.ask(route.method, concrete(route.path), {**JSON, **READER}, BODY)
                assert answer.status == (200 if route.role is Role.READ else 403), route
            assert server.operations.calls == []

    asyncio.run(main())


@pytest.mark.parametrize("form", FORMS)
def test_what_a_form_can_send_is_refused(form: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, applications={"one": {}}) as server:
            for route in ROUTES:
                answer = await server.ask(
                    route.method, concrete(route.path), {**ADMIN, "content-type": form}, BODY
                )
                assert answer.status == 415, route
                if route.body != "none":
                    assert (await server.ask(route.method, concrete(route.path), ADMIN, BODY)).status == 415
            assert server.operations.calls == []

    asyncio.run(main())


def test_methods_that_a_path_does_not_have_are_named(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            for path in {route.path for route in ROUTES}:
                has = {route.method for route in ROUTES if route.path == path}
                for method in set(METHODS) - has - {"HEAD"}:
                    answer = await server.ask(method, concrete(path), ADMIN)
                    assert answer.status == 405, (method, path)
                    assert all(one in answer.text for one in has)

    asyncio.run(main())


def test_there_are_no_websockets(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            for path in PATHS:
                upgrade = {**ADMIN, "upgrade": "websocket", "connection": "upgrade"}
                assert (await server.ask("GET", concrete(path), upgrade)).status == 400

    asyncio.run(main())


def test_everybody_who_may_gets_in(tmp_path: Path) -> None:
    ways = [
        ADMIN,
        {"x-ray-authorization": ADMIN["authorization"]},
        {"authorization": "Basic eDp5", "x-ray-authorization": ADMIN["authorization"]},
        {"authorization": "bearer " + "a" * 43},
    ]
    hosts = ["localhost", "localhost:1234", "[::1]:8265", "127.0.0.2", "LOCALHOST", "ops.example"]

    async def main() -> None:
        async with serving(tmp_path) as server:
            for way in ways:
                assert (await server.ask("DELETE", "/api/serve/applications/", way)).status == 200
            for host in hosts:
                for origin in ("", f"http://{host}", f"https://{host}"):
                    fields = {**ADMIN, "host": host, "origin": origin}
                    assert (await server.ask("GET", "/api/ray/version", fields)).status == 200, fields
            page = {**ADMIN, "sec-fetch-site": "same-origin"}
            assert (await server.ask("GET", "/api/ray/version", page)).status == 200
            twice = {**ADMIN, "Authorization": "Bearer x"}
            assert (await server.ask("GET", "/api/ray/version", twice)).status == 400

    asyncio.run(main())


def test_guessing_is_slow_for_the_guesser_and_nobody_else(tmp_path: Path) -> None:
    wrong = {"authorization": "Bearer wrong"}

    async def main(server: Serving) -> None:
        assert (await server.ask("GET", "/api/ray/version", wrong)).status == 403
        loop = asyncio.get_running_loop()
        begun = loop.time()
        guesses = [asyncio.ensure_future(server.ask("PUT", "/", wrong)) for _ in range(20)]
        assert (await server.ask("GET", "/api/ray/version", ADMIN)).status == 200
        assert not any(guess.done() for guess in guesses)
        assert {answer.status for answer in await asyncio.gather(*guesses)} == {403}
        assert loop.time() - begun >= FAILURE_DELAY_S - 0.01
        assert server.audit() == [], "the log does not grow by guesses that are held back"

    async def run() -> None:
        async with serving(tmp_path, failures_at_once=1) as server:
            await main(server)

    asyncio.run(run())


def test_a_guesser_may_leave(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, failures_at_once=0) as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            assert (await server.ask("GET", "/api/ray/version", ADMIN)).status == 200

    asyncio.run(main())


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def head(fields: dict[str, str], method: str, path: str) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "host: localhost",
        *(f"{name}: {value}" for name, value in fields.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def ask_again(stream: Stream, fields: dict[str, str]) -> bytes:
    """The status line of a question on a connection that is kept."""
    stream[1].write(head(fields, "GET", "/api/ray/version"))
    answer = await asyncio.wait_for(stream[0].readuntil(b"\r\n\r\n"), 30)
    size = int(answer.partition(b"content-length: ")[2].split()[0])
    await stream[0].readexactly(size)
    return answer.splitlines()[0]


async def connect(server: Serving, fields: dict[str, str]) -> Stream:
    """A connection that has shown a token."""
    stream = await asyncio.open_connection("127.0.0.1", server.port)
    assert await ask_again(stream, fields) == b"HTTP/1.1 200 OK"
    return stream


async def was_cut(stream: Stream) -> bool:
    try:
        return await stream[0].read() == b""
    except ConnectionError:
        return True


async def close(stream: Stream) -> None:
    stream[1].close()
    with contextlib.suppress(ConnectionError):
        await stream[1].wait_closed()


def test_connections_have_a_limit(tmp_path: Path) -> None:
    """Strangers who hold all there are lose the oldest to whoever comes; those with a token keep theirs."""

    async def main() -> None:
        async with serving(tmp_path) as server:
            known = await connect(server, ADMIN)
            strangers = [
                await asyncio.open_connection("127.0.0.1", server.port) for _ in range(MAX_CONNECTIONS - 1)
            ]
            await until(lambda: len(server.server.connections) == MAX_CONNECTIONS)
            for number in range(3):
                assert (await server.ask("GET", "/api/ray/version", ADMIN)).status == 200
                assert await asyncio.wait_for(was_cut(strangers[0]), 30), number
                strangers.append(await asyncio.open_connection("127.0.0.1", server.port))
                await close(strangers.pop(0))
                await until(lambda: len(server.server.connections) == MAX_CONNECTIONS)
            assert await ask_again(known, ADMIN) == b"HTTP/1.1 200 OK"
            for one in (known, *strangers):
                await close(one)
            await until(lambda: not server.server.connections)

    asyncio.run(main())


def test_idle_connections_with_a_token_go_when_there_are_no_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            known = [await connect(server, ADMIN) for _ in range(MAX_CONNECTIONS)]
            server.operations.gate = asyncio.Event()
            known[0][1].write(head(ADMIN, "DELETE", "/api/serve/applications/"))
            await asyncio.wait_for(server.operations.entered.wait(), 30)
            assert (await server.ask("GET", "/api/ray/version", ADMIN)).status == 200
            assert await asyncio.wait_for(was_cut(known[1]), 30), "the first is being served"
            server.operations.gate.set()
            assert (await known[0][0].readline()).startswith(b"HTTP/1.1 200")
            for one in known:
                await close(one)
            await until(lambda: not server.server.connections)

    asyncio.run(main())


def test_who_shows_no_token_is_not_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            silent = await asyncio.open_connection("127.0.0.1", server.port)
            wrong = await asyncio.open_connection("127.0.0.1", server.port)
            wrong[1].write(head({"authorization": "Bearer wrong"}, "GET", "/api/ray/version"))
            answer = await asyncio.wait_for(wrong[0].read(), 30)
            assert answer.startswith(b"HTTP/1.1 403") and b"connection: close" in answer
            for _ in range(5):  # seconds
                server.server.connections.sweep()
            assert await asyncio.wait_for(was_cut(silent), 30)
            await close(silent)
            await close(wrong)

    asyncio.run(main())


def test_bodies_have_a_limit(tmp_path: Path) -> None:
    large = json.dumps({"applications": [], "x": "y" * 8 * 2**20})

    async def main() -> None:
        async with serving(tmp_path) as server:
            path = "/api/serve/applications/"
            head = {**ADMIN, **JSON, "content-length": str(len(large))}
            assert (await server.ask("PUT", path, head, "{")).status == 413
            chunk = f"{2**20:x}\r\n" + "x" * 2**20 + "\r\n"
            chunked = {**ADMIN, **JSON, "transfer-encoding": "chunked", "content-length": ""}
            with pytest.raises((ConnectionError, IndexError)):
                answer = await server.ask("PUT", path, chunked, chunk * 9 + "0\r\n\r\n")
                assert answer.status == 413
                raise ConnectionError("it was answered, which is as well")
            near = json.dumps({"applications": [], "x": "y" * 7 * 2**20})
            assert (await server.ask("PUT", path, {**ADMIN, **JSON}, near)).status == 200
            assert (await server.ask("GET", "/" + "x" * 5000, ADMIN)).status == 414
            assert (await server.ask("GET", "/", {**ADMIN, "x": "y" * 17000})).status == 431

    asyncio.run(main())


def test_every_attempt_to_change_something_is_in_the_audit_log(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, applications={"one": {}}) as server:
            before = time.time()
            config = {"applications": [{"name": "one", "runtime_env": {"env_vars": {"KEY": "s3cret"}}}]}
            path = "/api/serve/applications/"
            await server.ask("PUT", path, {**ADMIN, **JSON}, json.dumps(config))
            await server.ask("PUT", path, {**ADMIN, **JSON}, "{}")
            await server.ask("DELETE", path + "one", {**READER, "x-forwarded-for": "1.2.3.4"})
            await server.ask("DELETE", path + "one", {"authorization": "Bearer " + "c" * 43})
            await server.ask("GET", path, ADMIN)
            assert [(line["role"], line["method"], line["status"]) for line in server.audit()] == [
                ("admin", "PUT", 200),
                ("admin", "PUT", 400),
                ("read", "DELETE", 403),
                ("none", "DELETE", 403),
            ]
            text = server.audit_path.read_text()
            assert "s3cret" not in text and "aaaa" not in text and "cccc" not in text
            assert "config of one" in text and '"peer":"127.0.0.1:' in text
            assert server.audit_path.stat().st_mode & 0o777 == 0o600
            assert server.audit()[0]["time"] >= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before - 1))

    asyncio.run(main())
