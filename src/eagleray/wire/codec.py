"""Python values, errors and code as bytes, between processes of ours that have proved who they are.

pickle 5 carries values; cloudpickle takes over for what only exists in this program (lambdas, classes of `__main__`).
Large buffers (numpy, Arrow) leave the pickle stream and travel beside it (`wire.parts`): they are copied once where the
value is dumped, which is the snapshot that protects it from later changes, and not again where it is loaded.

Unpickling happens in exactly two functions: `load_value` and `load_code`. Neither is ever given bytes from HTTP, the
store or anybody who has not been authenticated.
"""

from __future__ import annotations

import copyreg
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle

from eagleray.wire import parts
from eagleray.wire.frames import MAX_CHUNK, Buffer
from eagleray.wire.remote_error import Carried, RemoteError, rebuild, safe_str
from eagleray.wire.unpicklable import SerializationError, find_culprit

_MIN_SIDE_BUFFER = 64 * 1024
"""Bytes from which a buffer is worth its own entry; below, one memcpy is cheaper."""
_SCALARS = frozenset((int, float, bool, type(None)))
_TEXTS = frozenset((str, bytes))
Take = Callable[[int], parts.Memory | None]
"""Gives memory of so many bytes that the receiver can see too, or None."""
_MAX_TEXT, _MAX_MESSAGE = 32 * 1024, 4 * 1024
"""Characters of a traceback (its end) and of a message (its beginning); UTF-8 makes at most 4 bytes of each."""


def _reduce_missing(_: object) -> str:
    return "MISSING"


# A dataclass that travels by value would arrive with another object for "no default", which is told by identity. In
# every process: what comes back replaces the fields of the class that the script has.
copyreg.pickle(type(dataclasses.MISSING), _reduce_missing)


class _UserCodeError(Exception):
    """Pickling has failed, in code of the user; the caller knows how to say what failed."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def dump_call(args: tuple[Any, ...], kwargs: dict[str, Any], take: Take | None = None) -> bytes:
    """The body of a PYTHON call. Raises SerializationError, which names the argument that cannot be pickled.

    With `take` a large one is put into memory that it gives, and returned as `parts.Shared`.
    """
    try:
        return _dump((args, kwargs), take)
    except _UserCodeError as failed:
        parts = {f"argument {index}": value for index, value in enumerate(args)}
        parts |= {f"argument '{name}'": value for name, value in kwargs.items()}
        raise SerializationError(find_culprit(parts, failed.error)) from failed.error


def load_call(data: Buffer) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The inverse of `dump_call`."""
    args, kwargs = load_value(data)
    return args, kwargs


def dump_value(value: Any, take: Take | None = None) -> bytes:
    """The body of a reply or one item of a stream. Raises SerializationError, which names what cannot be pickled.

    `take` is as for `dump_call`.
    """
    try:
        return _dump(value, take)
    except _UserCodeError as failed:
        raise SerializationError(find_culprit({"the result": value}, failed.error)) from failed.error


def _dump(value: Any, take: Take | None = None) -> bytes:
    kind = type(value)
    if kind in _SCALARS or (kind in _TEXTS and len(value) < _MIN_SIDE_BUFFER):
        return pickle.dumps(value, 5)  # half the time, which counts for the many small items of streams
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        """True: stay in the stream."""
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if raw.nbytes < _MIN_SIDE_BUFFER:
            return True
        buffers.append(raw)
        return False

    try:
        stream = pickle.dumps(value, 5, buffer_callback=keep)
        by_reference = b"__main__" not in stream
    except Exception:  # user code runs in here, and raises what it likes
        by_reference = False
    if not by_reference:
        # Classes of the user's script are unknown to the process over there, so they travel by value.
        buffers.clear()
        try:
            stream = cloudpickle.dumps(value, 5, buffer_callback=keep)
        except Exception as error:
            raise _UserCodeError(error) from error
    if not buffers and (take is None or len(stream) < parts.SHARED_FROM):
        return stream
    pieces: list[Buffer] = [stream, *buffers]
    if take is not None and (shared := parts.share(pieces, take)) is not None:
        return shared
    return parts.join(pieces) if buffers else stream


def load_value(data: Buffer, *buffers: Buffer) -> Any:
    """The inverse of `dump_value`, and of `forward`.

    `data` becomes the value's: it is not to be used any more. Buffers of `parts.LARGE` bytes and more are parts of it
    and read-only, smaller ones are writable.
    """
    if data[0] == parts.DIRECTORY:
        data, *buffers = parts.split(data)  # type: ignore[assignment]
    return pickle.loads(data, buffers=buffers)


def forward(data: Buffer) -> tuple[Any, ...]:
    """The arguments of `load_value` for which it returns the value of `data`; large parts stay beside the pickle."""
    if data[0] == parts.DIRECTORY:
        stream, *buffers = parts.split(data)
        return _beside(stream), *map(pickle.PickleBuffer, buffers)
    return (_beside(data),)


def _beside(stream: Buffer) -> Any:
    return pickle.PickleBuffer(stream) if len(stream) >= _MIN_SIDE_BUFFER else bytes(stream)


def dump_code(code: Any) -> bytes:
    """A callable, or the `(args, kwargs)` it is built with; what belongs to the user's script travels by value."""
    try:
        data: bytes = cloudpickle.dumps(code, 5)
    except Exception as error:  # user code runs in here
        raise SerializationError(find_culprit({"the code": code}, error)) from error
    return data


def load_code(data: bytes) -> Any:
    """The inverse of `dump_code`."""
    return cloudpickle.loads(data)


def dump_error(error: BaseException, traceback_text: str) -> bytes:
    """The body of an ERROR of code `user`: the exception if it can be pickled, and its traceback as text always.

    At most `MAX_CHUNK` bytes, so that it fits into its one frame; an exception that does not fit is left out.
    """
    cause: BaseException | None = error.cause if isinstance(error, RemoteError) else error
    name = type(cause if cause is not None else error).__name__
    text = traceback_text if len(traceback_text) <= _MAX_TEXT else "...\n" + traceback_text[-_MAX_TEXT:]
    pickled = b""
    if cause is not None:
        try:
            pickled = _dump(Carried(cause))
        except _UserCodeError:
            pickled = b""
    message = safe_str(error)[:_MAX_MESSAGE]
    data = _dump((pickled, name, message, text))
    return data if len(data) <= MAX_CHUNK else _dump((b"", name, message, text))


def load_error(data: bytes) -> Exception:
    """The exception to raise at the caller: an instance of the original class and of `RemoteError`.

    `.cause` is the original, `str()` has the remote traceback. A plain `RemoteError` when the original cannot be
    rebuilt here, is no `Exception`, or cannot be subclassed.
    """
    if not data:
        return RemoteError(None, "the remote error was too large to be sent")
    pickled, name, message, text = load_value(data)
    cause: BaseException | None = None
    if pickled:
        try:
            cause = load_value(pickled)
        except Exception:  # user code runs in here: its class may not exist in this process
            cause = None
    if not isinstance(cause, BaseException):
        return RemoteError(None, text or f"{name}: {message}")
    return rebuild(cause, text)
