"""Arrays from JSON, `.npy` and raw numbers; what is not an array of numbers is refused before it costs anything."""

from __future__ import annotations

import io
import json
import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.unit.replica.typed.asking import ask, refused

NPY = "application/x-npy"
RAW = "application/octet-stream"


def any_array(x: np.ndarray) -> Any:  # type: ignore[type-arg]
    return x


def floats(x: npt.NDArray[np.float32]) -> Any:
    return x


def small(x: npt.NDArray[np.uint8]) -> Any:
    return x


def flags(x: npt.NDArray[np.bool_]) -> Any:
    return x


def both(x: npt.NDArray[np.float32], y: list[npt.NDArray[np.int64]], scale: float = 1.0) -> Any:
    return x * scale, y


def npy(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def same(result: Any, expected: Any) -> None:
    assert result.dtype == expected.dtype and result.dtype.isnative
    assert result.flags.writeable and result.flags.owndata | (result.base is not None)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([[1, 2], [3, 4]], "int64"),
        ([1, 2.5], "float64"),
        (3, "int64"),
        ([True], "bool"),
        ([], "float64"),
        ([[], []], "float64"),
    ],
)
def test_nested_lists(value: Any, dtype: str) -> None:
    same(ask(any_array, json_body=value), np.array(value, dtype))
    if dtype != "bool":
        same(ask(floats, json_body=value), np.array(value, np.float32))


@pytest.mark.parametrize(
    "body",
    ['["1"]', "{}", '"1"', "null", "[null]", "[1, [2]]", "[[1], [2, 3]]", f"[{2**70}]", "[" * 40 + "]" * 40],
)
def test_what_is_no_array_of_numbers_is_422(body: str) -> None:
    assert refused(floats, body.encode()) == (422, [("array_type", ["body"])])


def test_values_are_never_changed_by_more_than_rounding() -> None:
    same(ask(small, json_body=[0, 255]), np.array([0, 255], np.uint8))
    for value in ([256], [-1], [1.5], [1.0]):
        assert refused(small, json_body=value) == (422, [("array_type", ["body"])])
    assert refused(floats, json_body=[1e300])[0] == 422
    assert refused(flags, json_body=[1])[0] == 422
    same(ask(flags, json_body=[True, False]), np.array([True, False]))


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "|u1", "<i8", "|b1", "<c8", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(dtype: str, order: Any) -> None:
    array = np.asarray(np.arange(6).reshape(2, 3).astype(dtype), order=order)
    same(ask(any_array, npy(array), content_type=NPY), array.astype(array.dtype.newbyteorder("=")))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,) * 20])
def test_npy_of_any_shape(shape: tuple[int, ...]) -> None:
    array = np.ones(shape, np.float32)
    same(ask(floats, npy(array), content_type=NPY), array)


def test_npy_versions() -> None:
    array = np.arange(3.0)
    for version in ((1, 0), (2, 0), (3, 0)):
        stream = io.BytesIO()
        np.lib.format.write_array(stream, array, version=version)
        same(ask(any_array, stream.getvalue(), content_type=NPY), array)


class Bomb:
    def __reduce__(self) -> Any:
        return pytest.fail, ("it was unpickled",)


def test_nothing_is_unpickled() -> None:
    objects = npy(np.array([Bomb()], dtype=object), allow_pickle=True)
    assert refused(any_array, objects, content_type=NPY) == (415, [("npy_dtype", ["body"])])
    assert refused(any_array, pickle.dumps(Bomb()), content_type=NPY) == (400, [("npy_invalid", ["body"])])
    for other in (
        np.array(["a"]),
        np.array([(1, 2)], dtype="i4,i4"),
        np.array(["2026-01-01"], dtype="M8[s]"),
    ):
        assert refused(any_array, npy(other), content_type=NPY) == (415, [("npy_dtype", ["body"])])


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x00\x01\x00\x00\x00\x00",
        b"PK\x03\x04" + bytes(20),
        npy(np.arange(3.0))[:-1],
        npy(np.arange(3.0)) + b"x",
        npy(np.arange(3.0))[:50],
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}"),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 10000000000000000000000)}"),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': " + "(" * 400 + ")" * 400 + "}"),
        header("{'descr': '<f8'}"),
        header("-" * 1000 + "1"),
        header("__import__('os')"),
        header(" " * 5000),
    ],
)
def test_broken_npy_is_400(body: bytes) -> None:
    if body:
        assert refused(any_array, body, content_type=NPY)[0] == 400
    else:
        assert refused(any_array, body, content_type=NPY) == (422, [("missing", ["body"])])


def test_raw_numbers_take_dtype_and_shape_from_the_content_type() -> None:
    array = np.arange(6, dtype="<i4").reshape(2, 3)
    body = array.tobytes()
    same(ask(any_array, body, content_type=f'{RAW}; dtype=int32; shape="2,3"'), array)
    same(ask(any_array, body, content_type=f"{RAW}; dtype=int32"), array.ravel())
    same(ask(floats, body, content_type=f"{RAW}; shape=3,2"), np.frombuffer(body, "<f4").reshape(3, 2))
    same(ask(floats, body, content_type=f"{RAW}; dtype=int32; shape=6"), array.ravel().astype(np.float32))
    same(ask(flags, b"\x00\x01\x07", content_type=RAW), np.array([False, True, True]))


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ("", 415),
        ("; dtype=object", 415),
        ("; dtype=S1000000000", 415),
        ("; dtype=float64", 400),
        ("; dtype=int32; shape=2,2", 400),
        ("; dtype=int32; shape=-1", 400),
        ("; dtype=int32; shape=two", 400),
        ("; dtype=int32; shape=²", 400),
        ("; dtype=int32; shape=" + "9" * 30, 400),
        ("; dtype=int32; shape=" + "1," * 40 + "6", 400),
    ],
)
def test_raw_numbers_that_do_not_fit(parameters: str, status: int) -> None:
    assert refused(any_array, bytes(28), content_type=RAW + parameters)[0] == status


def test_arrays_among_several_parameters() -> None:
    x, y = ask(both, json_body={"x": [1, 2], "y": [[1], [2, 3]], "scale": 2})
    same(x, np.array([2, 4], np.float32))
    assert [one.tolist() for one in y] == [[1], [2, 3]]
    assert refused(both, json_body={"x": [1], "y": [[1], [0.5]]}) == (422, [("array_type", ["body", "y", 1])])


def test_one_array_may_be_the_body_and_the_rest_the_query() -> None:
    def scaled(x: npt.NDArray[np.float32], scale: float = 1.0) -> Any:
        return x * scale

    array = np.arange(4, dtype=np.float32)
    same(ask(scaled, npy(array), content_type=NPY, query="scale=2"), array * 2)
    same(ask(scaled, json.dumps({"x": [1], "scale": 3}).encode()), np.array([3], np.float32))
    assert refused(scaled, npy(array), content_type=NPY, query="scale=x")[0] == 422
