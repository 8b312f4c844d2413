"""How an exception of another process is raised here: as what it was, and as what it is, a remote one.

The class that is raised is made on the spot from `RemoteError` and the original class, so that both
`except MyError` and `except RemoteError` catch it.
"""

from __future__ import annotations

import types
from typing import Any, ClassVar

_CONTROL_FLOW = (StopIteration, StopAsyncIteration)
"""Raised inside a coroutine or generator of the caller these would mean something else."""


class RemoteError(Exception):
    """User code has raised in a replica. `cause` is the original exception, None when it could not be rebuilt.

    `str()` is the remote traceback.
    """

    code: ClassVar[str] = "user"

    def __init__(self, cause: BaseException | None, traceback_text: str) -> None:
        super().__init__(cause, traceback_text)
        self.cause = cause
        self.traceback_text = traceback_text

    def __str__(self) -> str:
        return self.traceback_text

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_or_plain, (self.cause, self.traceback_text)


def rebuild(cause: BaseException, traceback_text: str) -> RemoteError:
    """An exception that is a RemoteError and an instance of the cause's class, with its attributes.

    A plain RemoteError where such a class cannot be made.
    """
    kind = type(cause)
    if not isinstance(cause, Exception) or isinstance(cause, (*_CONTROL_FLOW, RemoteError)):
        return RemoteError(cause, traceback_text)
    try:
        remote = types.new_class(
            f"RemoteError({kind.__name__})",
            (RemoteError, kind),
            exec_body=lambda namespace: namespace.update(
                __module__=kind.__module__, __init__=_keep_quiet, __str__=RemoteError.__str__
            ),
        )
        error: Any
        try:
            error = kind.__new__(remote)
        except TypeError:
            error = kind.__new__(remote, *cause.args)
        _copy_attributes(cause, error)
        error.args = cause.args
        error.cause = cause
        error.traceback_text = traceback_text
    except (
        Exception
    ):  # the user's metaclass, __new__ or properties: whatever they raise, the traceback is not lost
        return RemoteError(cause, traceback_text)
    return error if isinstance(error, RemoteError) else RemoteError(cause, traceback_text)


def _keep_quiet(self: object, *args: object, **kwargs: object) -> None:
    """In place of the original `__init__`, whose parameters nobody knows."""


def _copy_attributes(cause: BaseException, error: Any) -> None:
    """Instance attributes, and those that C classes and `__slots__` keep in descriptors (`OSError.errno`)."""
    for base in type(cause).__mro__:
        for name, member in vars(base).items():
            if name.startswith("__") or not isinstance(
                member, types.MemberDescriptorType | types.GetSetDescriptorType
            ):
                continue
            try:
                setattr(error, name, getattr(cause, name))
            except (AttributeError, TypeError):  # unset, or read-only
                continue
    vars(error).update(vars(cause))


class Carried:
    """Pickles as the exception in it would, but loads also when its `__init__` wants other things than `args`."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        how = self.error.__reduce_ex__(5)
        if isinstance(how, tuple) and how[0] is type(self.error) and len(how) <= 3:
            return _revive, how
        return _itself, (self.error,)


def _revive(
    kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any] | None = None
) -> BaseException:
    try:
        error = kind(*args)
    except TypeError:
        error = kind.__new__(kind, *args)
    if kind.__reduce__ is BaseException.__reduce__:
        error.args = args  # which `__init__` may have made of other ones
    if state:
        error.__setstate__(state)
    return error


def _itself(error: BaseException) -> BaseException:
    return error


def _rebuild_or_plain(cause: BaseException | None, traceback_text: str) -> RemoteError:
    return RemoteError(None, traceback_text) if cause is None else rebuild(cause, traceback_text)


def safe_str(error: BaseException) -> str:
    """`str(error)`, also when the user's `__str__` is broken."""
    try:
        return str(error)
    except BaseException as problem:  # user code: it may raise SystemExit
        return f"<{type(error).__name__}, whose __str__ raises {type(problem).__name__}>"


def cause_of(error: BaseException) -> object:
    """`error.cause`; None where there is no such thing, and where a user's `__getattr__` or property is broken."""
    try:
        return getattr(error, "cause", None)
    except BaseException:  # user code
        return None


def encodable(text: str, limit: int) -> str:
    """The first `limit` characters as text that has a UTF-8 form: lone surrogates are escaped, as in tracebacks."""
    return str.encode(text[:limit], "utf-8", "backslashreplace").decode()[:limit]
