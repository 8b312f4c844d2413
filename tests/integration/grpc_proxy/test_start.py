"""When there is a gRPC proxy, what is told when it cannot start, and `eagleray run`."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from tests.integration.cli.command import command, failing
from tests.integration.grpc_proxy.app import Note, function
from tests.integration.grpc_proxy.conftest import SERVICER, TIMEOUT_S
from tests.ports import free_port
from tests.processes import command_of, descendants
from tests.protos import echo_pb2, echo_pb2_grpc

from eagleray import serve
from eagleray.serve.config import gRPCOptions
from eagleray.serve.exceptions import RayServeException

APP = """
from eagleray import serve
import echo_pb2

@serve.deployment
class Echo:
    async def Say(self, request):
        return echo_pb2.Note(text=request.text.upper())

app = Echo.bind()
"""


@pytest.fixture(autouse=True)
def shut_down() -> Iterator[None]:
    yield
    serve.shutdown()


def start(**options: Any) -> None:
    serve.start(http_options={"port": free_port()}, grpc_options={"port": free_port(), **options})


def has_proxy() -> bool:
    return "er:proxy.grpc" in {command_of(pid) for pid in descendants(os.getpid())}


def test_there_is_none_without_servicer_functions() -> None:
    start()
    assert not has_proxy()


def test_there_is_none_with_port_0_or_without_proxies() -> None:
    start(port=0, grpc_servicer_functions=[SERVICER])
    assert not has_proxy()
    serve.shutdown()
    serve.start(proxy_location="Disabled", grpc_options=gRPCOptions(grpc_servicer_functions=[SERVICER]))
    assert not has_proxy()


def test_options_may_be_an_object_and_loopback_is_bound() -> None:
    port = free_port()
    serve.start(
        http_options={"port": free_port()},
        grpc_options=gRPCOptions(
            port=port, grpc_servicer_functions=[SERVICER], enable_reflection=False, max_message_bytes=1000
        ),
    )
    assert has_proxy()
    serve.run(function.bind())
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = echo_pb2_grpc.EchoStub(channel)
        assert stub.Say(Note(text="a"), timeout=TIMEOUT_S).text == "function: a"
        with pytest.raises(grpc.RpcError) as caught:
            stub.Say(Note(text="a" * 2000), timeout=TIMEOUT_S)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        reflecting = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        with pytest.raises(grpc.RpcError) as caught:
            list(reflecting(iter([b""]), timeout=TIMEOUT_S))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    (proxy,) = [pid for pid in descendants(os.getpid()) if command_of(pid) == "er:proxy.grpc"]
    listening = [one for one in psutil.Process(proxy).net_connections("tcp") if one.status == "LISTEN"]
    assert [(one.laddr.ip.removeprefix("::ffff:"), one.laddr.port) for one in listening] == [
        ("127.0.0.1", port)
    ]


def test_a_port_in_use_is_told_at_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RayServeException) as caught:
            start(port=port, grpc_servicer_functions=[SERVICER])
    text = str(caught.value)
    assert f"The gRPC proxy could not start: Failed to bind to address '127.0.0.1:{port}'." in text
    assert f"The port is in use by process {os.getpid()}" in text
    assert not descendants(os.getpid())


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(RayServeException, match=r"'192\.0\.2\.1' is not an address of this machine"):
        start(host="192.0.2.1", grpc_servicer_functions=[SERVICER])


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("no_such_module:add_XServicer_to_server", ModuleNotFoundError, "cannot be imported"),
        ("echo_pb2_grpc:add_NoServicer_to_server", ModuleNotFoundError, "is missing from"),
        ("echo_pb2_grpc:GRPC_GENERATED_VERSION", ValueError, "is not callable but str"),
        ("os.path:join", ValueError, "is not like the generated"),
        ("builtins:print", ValueError, "has added no RPC"),
        ("nonsense", ValueError, "is no import path"),
    ],
)
def test_what_is_no_servicer_function_is_refused(path: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        start(grpc_servicer_functions=[path])
    assert not descendants(os.getpid())


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc_health", None)
    monkeypatch.setattr(
        "eagleray.serve.servicers.find_spec", lambda name: None if name == "grpc_health" else 1
    )
    with pytest.raises(ModuleNotFoundError, match=r"gRPC needs grpc_health.*pip install 'eagleray\[grpc\]'"):
        start(grpc_servicer_functions=[SERVICER])


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValueError, match="servicers"):
        start(servicers=[])


def test_a_running_instance_keeps_its_options(caplog: pytest.LogCaptureFixture) -> None:
    start(grpc_servicer_functions=[SERVICER])
    logging.getLogger("ray.serve").propagate = True
    with caplog.at_level(logging.WARNING, "ray.serve"):
        serve.start(grpc_options={"port": 1})
    assert "these gRPC options differ and are ignored: port" in caplog.text


# ---- eagleray run -------------------------------------------------------------------------------------------


def write(home: Path) -> None:
    (home / "served.py").write_text(APP)
    for module in (echo_pb2, echo_pb2_grpc):
        assert module.__file__ is not None
        shutil.copy(module.__file__, home)


def test_the_command_line(home: Path) -> None:
    write(home)
    port = free_port()
    arguments = ["served:app", "--port", "0", "--grpc-port", str(port), "--grpc-servicer-functions", SERVICER]
    with command(home, *arguments) as running:
        running.wait_served()
        assert f"  gRPC   127.0.0.1:{port}" in running.out.text.splitlines()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = echo_pb2_grpc.EchoStub(channel)
            assert stub.Say(Note(text="up"), timeout=TIMEOUT_S).text == "UP"
        running.signal()
        assert running.end() == 0


@pytest.mark.parametrize(
    ("servicer", "words"),
    [
        ("no_such:add_X", "gRPC servicer function 'no_such:add_X' cannot be imported"),
        ("served:app", "is not callable but Application"),
    ],
)
def test_the_command_line_tells_a_servicer_that_is_none(home: Path, servicer: str, words: str) -> None:
    write(home)
    status, text = failing(home, "served:app", "--port", "0", "--grpc-servicer-functions", servicer)
    assert status == 1
    assert words in text
    assert "Traceback" not in text


def test_the_command_line_tells_a_port_in_use(home: Path) -> None:
    write(home)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = ["--grpc-port", port, "--grpc-servicer-functions", SERVICER]
        status, text = failing(home, "served:app", "--port", "0", *arguments)
    assert status == 1
    assert f"'127.0.0.1:{port}'. The port is in use by process" in text
