"""What a task is while it is queued, while it runs, and when it has ended. Plain records: no I/O, no clock.

Arguments and results are JSON, because whoever can write into a broker must not be able to run code here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from eagleray.base.errors import ConfigError, EaglerayError

PENDING, STARTED, RETRY = "PENDING", "STARTED", "RETRY"
SUCCESS, FAILURE, REVOKED = "SUCCESS", "FAILURE", "REVOKED"
"""Statuses, with Celery's names: users of Ray Serve's task consumers know them."""

ENDED = (SUCCESS, FAILURE, REVOKED)


class TaskQueueError(EaglerayError):
    """The queue cannot be reached or written to; the same operation may succeed later."""

    code = "unavailable"
    retryable = True


class TaskNotFoundError(EaglerayError):
    """No such task: it never was in this queue's store, or its result was kept for long enough and is gone."""

    code = "not_found"
    blame = "caller"


@dataclass(frozen=True)
class NewTask:
    """A task as it is put into a queue. `delay_s`: it is not begun sooner. `created_at`: wall time in seconds."""

    id: str
    name: str
    payload: str
    created_at: float
    delay_s: float = 0.0


@dataclass(frozen=True)
class Claim:
    """A task that a consumer has been lent. Whatever it does with it counts only while `token` is the task's.

    `attempts` have raised before this one; `losses` is how often a consumer went away with the task.
    """

    id: str
    token: str
    name: str
    payload: str
    attempts: int
    losses: int


@dataclass(frozen=True)
class TaskState:
    """A task as anybody may look at it. `result` is JSON text, of a failed task the error as a JSON string."""

    id: str
    status: str
    created_at: float
    result: str | None


@dataclass(frozen=True)
class Counts:
    """How many tasks of one queue wait, run, and wait for their time to come."""

    waiting: int
    running: int
    delayed: int


def encode_arguments(name: str, args: Any, kwargs: Any) -> str:
    """The payload of a call. ConfigError for arguments that JSON cannot say, or that are no list and no dict."""
    positional, named = [] if args is None else args, {} if kwargs is None else kwargs
    if not isinstance(positional, list | tuple) or not isinstance(named, dict):
        raise ConfigError(
            f"Task '{name}': args must be a list and kwargs a dict, got {type(args).__name__} and "
            f"{type(kwargs).__name__}."
        )
    try:
        return json.dumps({"args": list(positional), "kwargs": named}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"Task '{name}': arguments travel as JSON, and these cannot: {error}. Pass plain values, or the path or "
            "key of what is larger."
        ) from None


def decode_arguments(payload: str) -> tuple[list[Any], dict[str, Any]]:
    """Positional and named arguments. ValueError, whose text says what is wrong, for anything else."""
    try:
        told = json.loads(payload)
    except RecursionError:
        raise ValueError("its payload is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"its payload is not JSON: {error}") from None
    if not isinstance(told, dict):
        raise ValueError("its payload is not a JSON object with args and kwargs")
    args, kwargs = told.get("args", []), told.get("kwargs", {})
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise ValueError("args must be a JSON array and kwargs a JSON object")
    return args, kwargs
