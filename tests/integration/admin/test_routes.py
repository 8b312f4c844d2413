"""What each route answers: codes, bodies and words as Ray's tools expect them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.admin_server import ADMIN, JSON, READER, Serving, serving

from eagleray.admin.routes import ROUTES
from eagleray.base.errors import ConfigError, EaglerayError, NotFoundError, PreconditionError

ALL = "/api/serve/applications/"
SCALE = "/api/v1/applications/a/deployments/d/scale"
WRITE = {**ADMIN, **JSON}


def run(path: Path, body: Callable[[Serving], Awaitable[None]], **state: Any) -> None:
    async def main() -> None:
        async with serving(path, **state) as server:
            await body(server)

    asyncio.run(main())


def test_details(tmp_path: Path) -> None:
    apps = {"a": {"source": "declarative", "status": "RUNNING"}, "b": {"source": "imperative"}}

    async def body(server: Serving) -> None:
        answer = await server.ask("GET", ALL, ADMIN)
        assert answer.status == 200 and answer.headers["content-type"] == "application/json"
        assert answer.json()["applications"] == apps
        for kind, name in (("declarative", "a"), ("imperative", "b"), ("DECLARATIVE", "a")):
            answer = await server.ask("GET", f"{ALL}?api_type={kind}", ADMIN)
            assert list(answer.json()["applications"]) == [name]
        answer = await server.ask("GET", f"{ALL}?api_type=other", ADMIN)
        assert answer.status == 400 and answer.text.startswith("Invalid 'api_type' value: 'other'")
        assert (await server.ask("GET", f"{ALL}a", ADMIN)).json() == apps["a"]
        assert (await server.ask("GET", f"{ALL}a/", ADMIN)).json() == apps["a"]
        assert server.operations.calls == []
        assert (await server.ask("GET", f"{ALL}?routed=true", READER)).json()["applications"] == apps
        assert server.operations.calls == [("wait_routed",)]
        answer = await server.ask("GET", f"{ALL}zz", ADMIN)
        assert (answer.status, answer.text) == (404, 'Application "zz" does not exist.')
        assert (await server.ask("GET", ALL.rstrip("/"), ADMIN)).status == 200
        head = await server.ask("HEAD", ALL, ADMIN)
        assert (head.status, head.body) == (200, b"")

    run(tmp_path, body, applications=apps)


def test_put_takes_json_and_yaml_and_answers_nothing(tmp_path: Path) -> None:
    config = {"applications": [{"name": "a", "import_path": "m:app"}]}
    yaml = "applications:\n- name: a\n  import_path: m:app\n"

    async def body(server: Serving) -> None:
        answer = await server.ask("PUT", ALL, WRITE, json.dumps(config))
        assert (answer.status, answer.body) == (200, b"")
        assert json.loads(answer.headers["x-eagleray-warnings"]) == ["a é\nb"]
        assert (await server.ask("PUT", f"{ALL}?merge=true", WRITE, json.dumps(config))).status == 200
        for kind in ("application/yaml", "application/x-yaml; charset=utf-8"):
            assert (await server.ask("PUT", ALL, {**ADMIN, "content-type": kind}, yaml)).status == 200
        calls = [("apply", config, merge) for merge in (False, True, False, False)]
        assert server.operations.calls == calls
        for query in ("merge=yes", "merge=", "merge"):
            answer = await server.ask("PUT", f"{ALL}?{query}", WRITE, json.dumps(config))
            assert answer.status == 400 and "must be 'true' or 'false'" in answer.text
        assert server.operations.calls == calls, "nobody's applications were deleted"

    run(tmp_path, body, warnings=["a é\nb"])


@pytest.mark.parametrize("text", ["", "[1]", "{", "\xff", "[" * 100_000, '{"applications": 1}'])
def test_a_bad_json_body_is_the_callers(text: str, tmp_path: Path) -> None:
    async def body(server: Serving) -> None:
        answer = await server.ask("PUT", ALL, WRITE, text)
        assert answer.status == 400 and answer.text

    run(tmp_path, body)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("a: [", 400),
        ("!!python/object/apply:os.system ['true']", 400),
        ("[" * 100_000, 400),
        ("- 1", 400),
        ("applications: []\napplications: []", 400),
        ("x: " + "y" * 2**20, 413),
        ("a: &a [1,1,1,1,1,1,1,1]\n" + "\n".join(
            f"{n}: &{n} [{','.join([f'*{p}'] * 8)}]" for p, n in zip("abcdefgh", "bcdefghi", strict=True)), 400),
    ],
)  # fmt: skip
def test_a_bad_yaml_body_is_the_callers(text: str, status: int, tmp_path: Path) -> None:
    async def body(server: Serving) -> None:
        answer = await server.ask("PUT", ALL, {**ADMIN, "content-type": "application/yaml"}, text)
        assert answer.status == status, answer.text[:500]

    run(tmp_path, body)


def test_the_audit_log_repeats_nothing_of_a_yaml_body(tmp_path: Path) -> None:
    text = "applications:\n- {runtime_env: {env_vars: {TOKEN: hunter2, B: ]}}}\n"

    async def body(server: Serving) -> None:
        answer = await server.ask("PUT", ALL, {**ADMIN, "content-type": "application/yaml"}, text)
        assert answer.status == 400 and "not valid YAML: line 2" in answer.text, answer.text
        assert '"status":400' in server.audit_path.read_text()
        assert "hunter2" not in server.audit_path.read_text()

    run(tmp_path, body)


def test_one_application(tmp_path: Path) -> None:
    async def body(server: Serving) -> None:
        config = '{"import_path": "m:app"}'
        assert (await server.ask("PUT", f"{ALL}my%20app", WRITE, config)).status == 200
        answer = await server.ask("PUT", f"{ALL}a", WRITE, '{"name": "b"}')
        assert answer.status == 400 and answer.text == "name: the path says 'a', the body 'b'."
        assert (await server.ask("DELETE", f"{ALL}a", ADMIN)).status == 200
        assert (await server.ask("DELETE", f"{ALL}b", ADMIN)).status == 404
        answer = await server.ask("DELETE", ALL, ADMIN)
        assert (answer.status, answer.body) == (200, b"")
        assert server.operations.calls == [
            ("apply_application", "my app", {"import_path": "m:app"}),
            ("delete", "a"),
            ("shutdown",),
        ]

    run(tmp_path, body, applications={"a": {}})


def test_scale(tmp_path: Path) -> None:
    async def body(server: Serving) -> None:
        answer = await server.ask("POST", SCALE, WRITE, '{"target_num_replicas": 3}')
        assert answer.json() == {
            "message": "Scaling request received. Deployment will get scaled asynchronously."
        }
        assert server.operations.calls == [("scale", "a", "d", 3)]
        for bad in ("{}", "3", '{"target_num_replicas": -1}', '{"target_num_replicas": true}', "x"):
            answer = await server.ask("POST", SCALE, WRITE, bad)
            assert answer.status == 400 and answer.json()["error"].startswith("Invalid request body: "), bad

    run(tmp_path, body)


@pytest.mark.parametrize(
    ("failure", "status", "text"),
    [
        (NotFoundError("what"), 404, "Application or Deployment not found"),
        (PreconditionError("Deployment is deleted"), 412, "Deployment is deleted"),
        (ConfigError("bad"), 400, "bad"),
        (EaglerayError("the disk is full"), 503, "the disk is full"),
        (RuntimeError("inside"), 503, "'scale' failed inside the controller; its log has the traceback."),
    ],
)
def test_failures_of_scale(failure: Exception, status: int, text: str, tmp_path: Path) -> None:
    async def body(server: Serving) -> None:
        answer = await server.ask("POST", SCALE, WRITE, '{"target_num_replicas": 3}')
        assert (answer.status, answer.json()) == (status, {"error": text})

    run(tmp_path, body, failure=failure)


def test_a_failing_controller_is_unavailable(tmp_path: Path) -> None:
    async def body(server: Serving) -> None:
        assert (await server.ask("GET", ALL, ADMIN)).status == 503
        assert (await server.ask("PUT", ALL, WRITE, '{"applications": []}')).status == 503

    run(tmp_path, body, failure=EaglerayError("no"))


def test_version_and_openapi(tmp_path: Path) -> None:
    async def body(server: Serving) -> None:
        version = (await server.ask("GET", "/api/ray/version", READER)).json()
        assert {"version", "ray_version", "ray_commit", "session_name"} <= set(version)
        assert version["session_name"] == "session_1" and version["eagleray_version"] == "1.2.3"
        document = (await server.ask("GET", "/api/serve/openapi.json", READER)).json()
        described = {
            (method.upper(), path) for path, methods in document["paths"].items() for method in methods
        }
        assert described == {(route.method, route.path) for route in ROUTES}

    run(tmp_path, body)


def test_a_change_goes_on_when_its_client_leaves(tmp_path: Path) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        async with serving(tmp_path, gate=gate) as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            token = ADMIN["authorization"]
            writer.write(
                f"DELETE {ALL} HTTP/1.1\r\nhost: localhost\r\nauthorization: {token}\r\n\r\n".encode()
            )
            await server.operations.entered.wait()
            writer.close()
            await writer.wait_closed()
            gate.set()
            await server.server.tasks.join()
            assert server.operations.calls == [("shutdown",)]
            assert [line["status"] for line in server.audit()] == [200]

    asyncio.run(main())


def test_requests_of_one_connection_are_answered_in_turn(tmp_path: Path) -> None:
    async def body(server: Serving) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"host: localhost\r\nauthorization: {ADMIN['authorization']}\r\n"
        writer.write(f"GET /api/ray/version HTTP/1.1\r\n{head}\r\n".encode() * 3)
        writer.write(f"GET /nothing HTTP/1.1\r\n{head}connection: close\r\n\r\n".encode())
        raw = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        await writer.wait_closed()
        assert raw.count(b"HTTP/1.1 200 OK") == 3 and raw.count(b"HTTP/1.1 404") == 1

    run(tmp_path, body)
