"""What is read off generated servicer functions, and how a parser is found again in another process."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import grpc
import pytest
from tests.protos import echo_pb2

from eagleray.serve.servicers import Rpc, deserializer_of, name_of, record

ECHO = "echo_pb2_grpc:add_EchoServicer_to_server"


def handlers(**methods: Any) -> Any:
    """A servicer function as it would be generated, in a module of its own."""

    def add(servicer: Any, server: Any) -> None:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("by.Hand", methods),))

    return add


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("by_hand")
    monkeypatch.setitem(sys.modules, "by_hand", module)
    return module


def parse_text(data: bytes) -> str:
    return data.decode()


def test_kinds_are_read_off_generated_code() -> None:
    rpcs = record([ECHO])
    kinds = {rpc.method: (rpc.client_streaming, rpc.server_streaming) for rpc in rpcs.values()}
    assert kinds == {
        "Say": (False, False),
        "Count": (False, True),
        "Join": (True, False),
        "Chat": (True, True),
        "Beats": (False, True),
        "Unserved": (False, False),
    }
    assert {rpc.service for rpc in rpcs.values()} == {"tests.echo.Echo"}
    assert set(rpcs) == {f"/tests.echo.Echo/{method}" for method in kinds}


def test_generated_code_that_knows_only_generic_handlers(by_hand: ModuleType) -> None:
    by_hand.add = handlers(Say=grpc.unary_unary_rpc_method_handler(lambda request, context: None))  # type: ignore[attr-defined]
    assert list(record(["by_hand:add"])) == ["/by.Hand/Say"]


def test_several_functions_and_dotted_paths() -> None:
    assert record([ECHO.replace(":", "."), ECHO]).keys() == record([ECHO]).keys()


def test_messages_are_named_where_they_are_defined() -> None:
    say = record([ECHO])["/tests.echo.Echo/Say"]
    assert name_of(say) == "echo_pb2:Note.FromString"
    assert deserializer_of(name_of(say))(echo_pb2.Note(text="x").SerializeToString()) == echo_pb2.Note(
        text="x"
    )


def test_a_message_whose_module_was_moved_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """protoc writes the module's name into the code, and people move the files."""
    say = record([ECHO])["/tests.echo.Echo/Say"]
    moved = ModuleType("moved_pb2")
    moved.Note = echo_pb2.Note  # type: ignore[attr-defined]
    monkeypatch.delitem(sys.modules, "echo_pb2")
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setitem(sys.modules, "moved_pb2", moved)
    assert name_of(say) == "moved_pb2:Note.FromString"


def test_functions_are_named_and_lambdas_are_found_by_who_registers_them(by_hand: ModuleType) -> None:
    def handler(parse: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: None, request_deserializer=parse)

    by_hand.add = handlers(Named=handler(parse_text), Lambda=handler(lambda data: data[::-1]))  # type: ignore[attr-defined]
    rpcs = record(["by_hand:add"])
    assert name_of(rpcs["/by.Hand/Named"]) == f"{__name__}:parse_text"
    nameless = name_of(rpcs["/by.Hand/Lambda"])
    assert nameless == "by_hand:add#/by.Hand/Lambda"
    assert deserializer_of(nameless)(b"abc") == b"cba"


def test_no_deserializer_means_bytes() -> None:
    assert name_of(Rpc("/a.B/C", False, False, None, "x:y")) == ""
