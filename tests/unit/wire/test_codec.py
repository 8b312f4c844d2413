"""Values, calls and errors survive the way; what cannot go is named."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import pytest
from starlette.requests import Request

from eagleray.base.errors import EaglerayError
from eagleray.serve.composition import Forwarded
from eagleray.wire.codec import (
    dump_call,
    dump_code,
    dump_error,
    dump_value,
    load_call,
    load_code,
    load_error,
    load_value,
)
from eagleray.wire.frames import MAX_CHUNK
from eagleray.wire.remote_error import RemoteError
from eagleray.wire.unpicklable import SerializationError


class Connected:
    def __init__(self) -> None:
        self._lock = threading.Lock()


@dataclass
class Model:
    name: str = "m"
    client: Connected = field(default_factory=Connected)


class Parting(Exception):
    def __init__(self, where: str, *, code: int) -> None:
        super().__init__(where)
        self.code = code

    def __reduce__(self) -> object:
        return _parting, (self.args[0], self.code)


def _parting(where: str, code: int) -> Parting:
    return Parting(where, code=code)


class Forgetful(Exception):
    """`pickle` cannot rebuild it from its args."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__("forgot")
        self.b = b


class Hasty(Exception):
    """`pickle` rebuilds it with a longer message."""

    def __init__(self, where: str, how: str = "?") -> None:
        super().__init__(f"{where}: {how}")


class Lost(Exception):
    """Cannot be rebuilt at all."""

    def __new__(cls, *args: object) -> Lost:
        if "lost" in args:
            raise LookupError("lost")
        return super().__new__(cls, *args)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_values_and_calls_come_back() -> None:
    value = {"a": [1, None, "x", b"y", {2.5}], "t": (1,)}
    assert load_value(dump_value(value)) == value
    assert load_call(dump_call((1, "b"), {"c": value})) == ((1, "b"), {"c": value})


def test_large_arrays_travel_beside_the_pickle_and_stay_writable() -> None:
    big, small = np.arange(1 << 16), np.arange(4)
    data = dump_value([big, small, big[::2]])
    assert data[0] != 0x80
    copies = load_value(data)
    for copy, original in zip(copies, (big, small, big[::2]), strict=True):
        assert (copy == original).all()
        copy[0] = 7
    assert big[0] == 0


def test_arrays_of_a_megabyte_and_more_are_read_only_views_of_what_has_come() -> None:
    large, big = np.arange(1 << 18), np.arange(1 << 14)
    received = bytearray(dump_value({"large": large, "big": big, "every other": large[::2]}))
    loaded = load_value(received)
    for name, original in (("large", large), ("big", big), ("every other", large[::2])):
        assert (loaded[name] == original).all()
    assert not loaded["large"].flags.writeable and loaded["big"].flags.writeable
    assert loaded["every other"].flags.writeable, "it is not contiguous and travels in the pickle"
    assert loaded["large"].flags.aligned and np.shares_memory(
        loaded["large"], np.frombuffer(received, dtype=np.uint8)
    )
    received[received.index(large.tobytes()[:64])] = 5
    assert loaded["large"][0] == 5, "nothing was copied"


def test_many_arrays_of_every_layout_come_back_in_their_order() -> None:
    arrays = [
        np.arange(30_000, dtype=np.float32).reshape(100, 300),
        np.asfortranarray(np.arange(90_000).reshape(300, 300)),
        np.arange(200_000)[::-1],
        np.array([["a", None], [b"c", 1.5]], dtype=object),
        np.arange(1 << 20, dtype=np.uint8),
        np.zeros((0, 5)),
        np.arange(100_001, dtype=np.uint8)[1:],
    ]
    value = {"nested": [arrays, tuple(arrays)], "bytes": b"b" * 3_000_000, "text": bytearray(b"t" * 200_000)}
    for copy in (load_value(dump_value(value)), load_value(bytearray(dump_value(value)))):
        assert copy["bytes"] == value["bytes"] and copy["text"] == value["text"]
        for group in copy["nested"]:
            for array, original in zip(group, arrays, strict=True):
                assert array.dtype == original.dtype and (array == original).all()
                assert array.flags.f_contiguous >= original.flags.f_contiguous


def test_a_value_is_forwarded_without_being_decoded() -> None:
    large, big = np.arange(1 << 18), np.arange(1 << 14)
    for value in ([1, "x"], [large, big], b"b" * 200_000, [b"c" * 2_000_000, large]):
        for data in (dump_value(value), bytearray(dump_value(value))):
            (inner,), _ = load_call(dump_call((Forwarded(data),), {}))
            for got, sent in zip(inner, value, strict=True):
                assert np.array_equal(got, sent)
    (arrays,), _ = load_call(dump_call((Forwarded(dump_value([large, big])),), {}))
    assert [array.flags.writeable for array in arrays] == [False, True]


def test_what_exists_only_here_travels_by_value() -> None:
    add = load_value(dump_value(lambda a: a + 1))
    assert add(1) == 2
    assert load_code(dump_code(lambda: add(2)))() == 3


def test_classes_of_the_main_module_travel_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    namespace: dict[str, type] = {}
    exec("class Local:\n    x = 1\n", {"__name__": "__main__"}, namespace)
    monkeypatch.setattr(sys.modules["__main__"], "Local", namespace["Local"], raising=False)
    data = dump_value(namespace["Local"]())
    monkeypatch.delattr(sys.modules["__main__"], "Local")
    assert load_value(data).x == 1


@pytest.mark.parametrize(
    ("dump", "path"),
    [
        (lambda: dump_value(Model()), "Cannot send the result: `Model.client._lock`"),
        (lambda: dump_value({"a": [1, Model()]}), "`result['a'][1].client._lock`"),
        (lambda: dump_call((1, Model()), {}), "Cannot send argument 1: `Model.client._lock`"),
        (lambda: dump_call((), {"m": [Model()]}), "Cannot send argument 'm': `m[0].client._lock`"),
        (lambda: dump_code(((threading.Lock(),), {})), "Cannot send the code: `code[0][0]`"),
    ],
)
def test_what_cannot_be_pickled_is_named(dump: object, path: str) -> None:
    with pytest.raises(SerializationError) as raised:
        dump()  # type: ignore[operator]
    assert path in str(raised.value) and "_thread.lock" in str(raised.value)
    assert isinstance(raised.value, TypeError)


def test_what_refuses_to_be_pickled_in_our_words_is_named_itself() -> None:
    class Refusing:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def __reduce__(self) -> NoReturn:
            raise EaglerayError("await it first")

    with pytest.raises(SerializationError, match=r"`0\[1\]` is a .*Refusing, .*await it first"):
        dump_call(([1, Refusing()],), {})


def test_who_hands_on_a_request_that_was_not_read_is_told_what_to_send() -> None:
    request = Request({"type": "http", "headers": [(b"content-length", b"3")], "app": threading.Lock()})
    with pytest.raises(
        SerializationError, match=r"argument 0.*Read it first .*such as `await request\.json\(\)`"
    ):
        dump_call((request,), {})


def test_a_closure_over_something_unpicklable_is_named() -> None:
    model = Model()
    with pytest.raises(SerializationError, match=r"model\.client\._lock"):
        dump_code(lambda: model)


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("division by zero"),
        KeyError("k"),
        FileNotFoundError(2, "No such file", "name"),
        UnicodeDecodeError("utf8", b"x", 0, 1, "reason"),
        ExceptionGroup("group", [ValueError(1)]),
        Parting("here", code=5),
        Forgetful(1, 2),
        Hasty("here", "now"),
    ],
)
def test_an_error_is_raised_as_its_own_class(error: Exception) -> None:
    remote = load_error(dump_error(error, "Traceback: the remote text"))
    assert isinstance(remote, type(error)) and isinstance(remote, RemoteError)
    assert str(remote) == "Traceback: the remote text"
    assert repr(remote.cause) == repr(error) and repr(remote.args) == repr(error.args)
    assert getattr(remote, "errno", None) == getattr(error, "errno", None)
    assert getattr(remote, "code", "user") == getattr(error, "code", "user")
    assert getattr(remote, "b", None) == getattr(error, "b", None)


def test_a_remote_error_may_travel_on() -> None:
    once = load_error(dump_error(Parting("here", code=5), "inner"))
    twice = load_error(dump_error(once, "outer\ninner"))
    assert isinstance(twice, Parting) and isinstance(twice.cause, Parting) and str(twice) == "outer\ninner"
    copy = load_value(dump_value(once))
    assert isinstance(copy, Parting) and str(copy) == "inner"


@pytest.mark.parametrize("error", [SystemExit(2), StopIteration(3), KeyboardInterrupt()])
def test_control_flow_is_not_raised_as_such(error: BaseException) -> None:
    remote = load_error(dump_error(error, "text"))
    assert type(remote) is RemoteError and type(remote.cause) is type(error)


def test_an_error_that_cannot_be_rebuilt_keeps_its_text() -> None:
    lost = Lost()
    lost.args = ("lost",)
    for error in (lost, Unspeakable(), ValueError(threading.Lock()), ValueError("x" * MAX_CHUNK)):
        data = dump_error(error, "the text")
        remote = load_error(data)
        assert isinstance(remote, RemoteError) and "the text" in str(remote)
        assert len(data) <= MAX_CHUNK
    assert isinstance(load_error(b""), RemoteError)


def test_a_dumped_error_always_fits_a_frame() -> None:
    assert len(dump_error(ValueError("\u2603" * 200_000), "\u2603" * 500_000)) <= MAX_CHUNK


SCRIPT = """
import dataclasses
from eagleray.wire.codec import dump_value, load_value

@dataclasses.dataclass
class Point:
    x: int

for _ in range(2):
    assert load_value(dump_value(Point(1))) == Point(1)
    assert dataclasses.fields(Point)[0].default is dataclasses.MISSING
"""


def test_a_scripts_dataclass_comes_back_as_it_was_from_a_process_that_deploys_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
