"""numpy arrays from request bodies: nested JSON lists, `.npy` files, and raw numbers.

Numbers and booleans only: an array of strings or objects can be made to need any amount of memory, and objects would
have to be unpickled. Sizes are checked before anything is allocated, so a body that claims a petabyte costs nothing.
What is made is the caller's own: writable, in native byte order.

numpy is not imported here: where nobody has, no annotation can be an array.
"""

from __future__ import annotations

import ast
import math
import struct
import sys
from typing import Any, get_args, get_origin

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from eagleray.replica.typed.media import Media, refuse

NPY = "application/x-npy"
RAW = "application/octet-stream"

_NAMES = frozenset(
    (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    )
)
_KINDS = frozenset("biufc")
_NUMBERS = frozenset((int, float, bool))
_MAX_DIMENSIONS = 32
_MAX_HEADER = 1024
"""Bytes of a `.npy` header; one of an array of numbers has about 120."""


def array_dtype(annotation: Any) -> tuple[bool, Any]:
    """Whether the annotation is an array, and of which dtype; None for any."""
    numpy: Any = sys.modules.get("numpy")
    array = getattr(numpy, "ndarray", None)
    if array is None or (annotation is not array and get_origin(annotation) is not array):
        return False, None
    for kind in get_args(get_args(annotation)[1]) if len(get_args(annotation)) == 2 else ():
        # Only the abstract ones, such as numpy.floating, have subclasses.
        if isinstance(kind, type) and issubclass(kind, numpy.generic) and not kind.__subclasses__():
            dtype = numpy.dtype(kind)
            return (True, dtype) if dtype.name in _NAMES else (False, None)
    return True, None


class ArrayType:
    """Lets pydantic make arrays; used in `Annotated[Any, ArrayType(dtype)]`. `dtype` None takes any number."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.from_lists)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {
            "type": "array",
            "items": {},
            "description": f"Nested lists of numbers ({self.dtype or 'any type'}).",
        }

    def from_lists(self, value: Any) -> Any:
        """An array of nested lists of numbers, or of one number. Raises PydanticCustomError."""
        if not _is_numeric(value, 0):
            raise _wrong("numbers in nested lists are expected")
        numpy: Any = sys.modules["numpy"]
        try:
            array = numpy.array(value)
        except (ValueError, OverflowError):
            raise _wrong("lists of the same depth must have the same length") from None
        if array.dtype.kind not in _KINDS:
            raise _wrong("a number is too large")
        return self._cast(array)

    def from_bytes(self, body: bytes, media: Media) -> Any:
        """An array of a binary body. Raises RequestRefused, and PydanticCustomError for numbers of a wrong kind."""
        return self._cast(_from_npy(body) if media.essence == NPY else _from_raw(body, media, self.dtype))

    def _cast(self, array: Any) -> Any:
        """To the annotated dtype, if no value is changed by more than rounding."""
        numpy: Any = sys.modules["numpy"]
        wanted = self.dtype or array.dtype.newbyteorder("=")
        if not array.size:
            return numpy.empty(array.shape, wanted)
        if wanted.kind + array.dtype.kind in ("ii", "iu", "ui", "uu"):
            limits = numpy.iinfo(wanted)
            if int(array.min()) < limits.min or int(array.max()) > limits.max:
                raise _wrong(f"a value is outside the range of {wanted}")
        elif not numpy.can_cast(array.dtype, wanted, "same_kind"):
            raise _wrong(f"{wanted} is expected, got {array.dtype}")
        try:
            with numpy.errstate(over="raise"):
                return array.astype(wanted, copy=not array.flags.writeable)
        except FloatingPointError:
            raise _wrong(f"a value is outside the range of {wanted}") from None


def _wrong(reason: str) -> PydanticCustomError:
    return PydanticCustomError("array_type", "Input should be a valid array: {reason}", {"reason": reason})


def _is_numeric(value: Any, depth: int) -> bool:
    """Looks at whole lists at once, at C speed."""
    kind = type(value)
    if kind is not list:
        return kind in _NUMBERS
    kinds = set(map(type, value))
    if _NUMBERS.issuperset(kinds):
        return True
    return kinds == {list} and depth < _MAX_DIMENSIONS and all(_is_numeric(one, depth + 1) for one in value)


# ---- binary bodies ---------------------------------------------------------------------------------------------


def _from_npy(body: bytes) -> Any:
    """What `numpy.save` has written (NEP 1); never unpickles."""
    if body[:6] != b"\x93NUMPY" or len(body) < 12:
        raise refuse(400, "npy_invalid", "The body is not a .npy file")
    if body[6] == 1:
        start, size = 10, struct.unpack_from("<H", body, 8)[0]
    else:
        start, size = 12, struct.unpack_from("<I", body, 8)[0]
    if size > _MAX_HEADER or start + size > len(body) or not 1 <= body[6] <= 3:
        raise refuse(
            400, "npy_invalid", "The header of the .npy file is too long, cut off or of an unknown version"
        )
    try:
        header = ast.literal_eval(body[start : start + size].decode("latin-1").strip())
        descr, fortran, shape = header["descr"], header["fortran_order"], header["shape"]
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        raise refuse(400, "npy_invalid", "The header of the .npy file cannot be read") from None
    if type(shape) is not tuple or not all(type(one) is int and one >= 0 for one in shape):
        raise refuse(400, "npy_invalid", "The .npy file has no valid shape")
    return _from_buffer(body, start + size, _read_descr(descr), shape, "F" if fortran is True else "C")


def _read_descr(descr: Any) -> Any:
    numpy: Any = sys.modules["numpy"]
    order, code = (descr[:1], descr[1:]) if type(descr) is str else ("", "")
    if order in ("<", ">", "|", "=") and len(code) in (2, 3) and code[0] in _KINDS and code[1:].isdigit():
        try:
            dtype = numpy.dtype(descr)
        except TypeError:
            pass  # no number of that size
        else:
            if dtype.name in _NAMES:
                return dtype
    raise refuse(415, "npy_dtype", "Only arrays of numbers and booleans are supported")


def _from_raw(body: bytes, media: Media, dtype: Any) -> Any:
    """Little-endian numbers in C order; the content type's `dtype` and `shape` say which and how many."""
    numpy: Any = sys.modules["numpy"]
    name = media.parameters.get("dtype", "") or (dtype.name if dtype is not None else "")
    if name not in _NAMES:
        raise refuse(
            415, "array_dtype", f"{RAW} needs the parameter dtype, such as `{RAW}; dtype=float32; shape=2,3`"
        )
    kind = numpy.dtype(name).newbyteorder("<")
    text = media.parameters.get("shape", "")
    if not text:
        return _from_buffer(body, 0, kind, (len(body) // kind.itemsize,), "C")
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > _MAX_DIMENSIONS or not all(
        part.isascii() and part.isdigit() and len(part) < 19 for part in parts
    ):
        raise refuse(400, "array_shape", "The parameter shape must be whole numbers, such as shape=2,3")
    return _from_buffer(body, 0, kind, tuple(map(int, parts)), "C")


def _from_buffer(body: bytes, start: int, dtype: Any, shape: tuple[int, ...], order: str) -> Any:
    numpy: Any = sys.modules["numpy"]
    count = math.prod(shape)
    if len(shape) > _MAX_DIMENSIONS or count * dtype.itemsize != len(body) - start:
        raise refuse(
            400,
            "array_size",
            f"The body has {len(body) - start} bytes, shape and {dtype.name} make it something else",
        )
    try:
        if not count:
            return numpy.empty(shape, dtype)
        array = numpy.frombuffer(body, dtype, count, start).reshape(shape, order=order)
    except ValueError:  # a dimension beyond what numpy can count, in an array without elements
        raise refuse(400, "array_shape", "The shape is too large") from None
    # A byte that is neither 0 nor 1 would be a third boolean.
    return array.view(numpy.uint8) != 0 if dtype.kind == "b" else array
