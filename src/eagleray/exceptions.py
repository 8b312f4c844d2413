"""Ray's names of the errors that calls of a handle raise: `ray.exceptions` under `as_ray`.

They are names for Eagleray's own classes, which are what is really raised.
"""

from eagleray.base.errors import EaglerayError as RayError
from eagleray.base.errors import ReplicaDiedError as RayActorError
from eagleray.base.errors import RequestCancelledError as TaskCancelledError
from eagleray.wire.remote_error import RemoteError as RayTaskError

ActorDiedError = RayActorError
GetTimeoutError = TimeoutError

__all__ = [
    "ActorDiedError",
    "GetTimeoutError",
    "RayActorError",
    "RayError",
    "RayTaskError",
    "TaskCancelledError",
]
