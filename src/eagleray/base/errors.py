"""The one tree of errors, and the one table from an error's code to HTTP and gRPC statuses.

Everything that Eagleray raises on purpose is an `EaglerayError`. `blame` says who can mend it, `retryable`
whether the same request may succeed elsewhere or later. Names and texts of the public classes are Ray Serve's.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

Blame = Literal["caller", "application", "system"]


class EaglerayError(Exception):
    """Base of every error raised on purpose; `serve.exceptions.RayServeException` is this class."""

    code: ClassVar[str] = "internal"
    blame: ClassVar[Blame] = "system"
    retryable: ClassVar[bool] = False


class ConfigError(EaglerayError, ValueError):
    """What the user wrote cannot be deployed; the message names the place and what to write instead."""

    code = "config"
    blame = "caller"


class NotFoundError(EaglerayError):
    """What is named does not exist."""

    code = "not_found"
    blame = "caller"


class PreconditionError(EaglerayError):
    """What is asked cannot be done with the thing as it is now."""

    code = "precondition"
    blame = "caller"


class DeployError(EaglerayError, RuntimeError):
    """An application could not be brought up; the message carries the user's traceback."""

    code = "deploy_failed"
    blame = "application"


class NotRunningError(EaglerayError):
    """No Eagleray instance is running where one was expected."""

    code = "not_running"
    blame = "caller"


class BackPressureError(EaglerayError):
    """The queue of a deployment is full; `retry_after_s` is None when nothing is known about the wait."""

    code = "backpressure"
    blame = "caller"
    retryable = True

    def __init__(
        self,
        num_queued_requests: int,
        max_queued_requests: int,
        status_code: int = 503,
        retry_after_s: float | None = None,
    ) -> None:
        self.num_queued_requests = num_queued_requests
        self.max_queued_requests = max_queued_requests
        self.status_code = status_code
        self.retry_after_s = retry_after_s
        super().__init__(self.message)

    @property
    def message(self) -> str:
        return (
            f"Request dropped due to backpressure (num_queued_requests={self.num_queued_requests}, "
            f"max_queued_requests={self.max_queued_requests})."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        args = (self.num_queued_requests, self.max_queued_requests, self.status_code, self.retry_after_s)
        return type(self), args


class RequestCancelledError(EaglerayError):
    """The awaited call was cancelled."""

    code = "cancelled"
    blame = "caller"

    def __init__(self, request_id: str | None = None) -> None:
        self.request_id = request_id
        super().__init__(f"Request {request_id} was cancelled." if request_id else "Request was cancelled.")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.request_id,)


class DeploymentUnavailableError(EaglerayError):
    """Nothing can answer for the target: it failed to deploy, or was deleted while the request waited."""

    code = "unavailable"
    blame = "application"
    retryable = True

    def __init__(self, deployment_id: object, reason: str = "it failed to deploy") -> None:
        self.deployment_id = deployment_id
        self.reason = reason
        super().__init__(self.message)

    @property
    def message(self) -> str:
        return f"{self.deployment_id} is unavailable because {self.reason}."

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.deployment_id, self.reason)


class ReplicaUnavailableError(EaglerayError):
    """A named replica has gone."""

    code = "replica_gone"
    retryable = True

    def __init__(self, replica_id: object) -> None:
        self.replica_id = replica_id
        super().__init__(self.message)

    @property
    def message(self) -> str:
        return f"Replica {self.replica_id} is no longer available."

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.replica_id,)


class ReplicaDiedError(EaglerayError):
    """The replica's connection ended after the request had been sent to it, so it is not run again elsewhere."""

    code = "replica_died"
    retryable = False


class RequestTimeoutError(EaglerayError, TimeoutError):
    """The request's deadline passed before its response began."""

    code = "timeout"
    blame = "application"


class gRPCStatusError(EaglerayError):  # noqa: N801, RUF100 - Ray Serve's name
    """An RPC is to end with this status: `code` as in `grpc.StatusCode`, or its number.

    What deployment code raises it ends with; `original_exception` is what was raised before, if anything.
    """

    blame = "application"

    def __init__(
        self, original_exception: BaseException | None, code: Any, details: str | None = None
    ) -> None:
        self.original_exception = original_exception
        self.grpc_code = code
        self.grpc_details = details
        super().__init__(str(original_exception) if original_exception is not None else details or "")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.original_exception, self.grpc_code, self.grpc_details)


class ProtocolError(EaglerayError):
    """A peer broke the wire protocol; its connection is closed and nothing else happens."""

    code = "protocol"


HTTP_STATUS: dict[str, int] = {
    "config": 400,
    "not_found": 404,
    "precondition": 412,
    "backpressure": 503,
    "unavailable": 503,
    "not_running": 503,
    "replica_gone": 503,
    "replica_died": 502,
    "timeout": 408,
    "cancelled": 499,
    "protocol": 502,
    "deploy_failed": 503,
    "internal": 500,
    "user": 500,
}
"""Error code -> HTTP status that a client sees; codes that are missing here are 500."""

GRPC_STATUS: dict[str, int] = {
    "config": 3,
    "not_found": 5,
    "precondition": 9,
    "backpressure": 8,
    "too_large": 8,
    "unavailable": 14,
    "not_running": 14,
    "replica_gone": 14,
    "replica_died": 14,
    "timeout": 4,
    "cancelled": 1,
    "deploy_failed": 14,
}
"""Error code -> number of the gRPC status that a client sees; codes that are missing here are 13, INTERNAL."""
