"""The route table x every method x everything that must not get in: nobody does, and nothing happens."""

from __future__ import annotations

import asyncio
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


def test_connections_have_a_limit(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            held = []
            for _ in range(MAX_CONNECTIONS):
                held.append(await asyncio.open_connection("127.0.0.1", server.port))
            await until(lambda: len(server.server.connections) == MAX_CONNECTIONS)
            with pytest.raises((ConnectionError, IndexError)):
                await server.ask("GET", "/api/ray/version", ADMIN)
            for _, writer in held:
                writer.close()
                await writer.wait_closed()
            await until(lambda: not server.server.connections)
            assert (await server.ask("GET", "/api/ray/version", ADMIN)).status == 200

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
