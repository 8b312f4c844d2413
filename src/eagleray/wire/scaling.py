"""Messages of autoscaling: what routers and replicas tell of load, and what policies are asked."""

from __future__ import annotations

import msgspec

from eagleray.wire.control import Message


class LoadReport(Message):
    """Body of `load`: deployment key -> calls that wait, calls at replicas, calls answered since the router began.

    Of one subscriber, for deployments that scale by it; those that it has no calls for may be missing.
    """

    subscriber: str
    loads: dict[str, tuple[int, int, int]] = msgspec.field(default_factory=dict)


class PolicyLaunch(Message):
    """A child that runs the autoscaling policies of one application."""

    app: str
    sys_path: list[str] = msgspec.field(default_factory=list)


class PolicyQuestion(Message):
    """Body of `decide`: a policy as text, JSON of its constructor's arguments and of each deployment's context."""

    policy: str
    kwargs: str = "{}"
    is_app_level: bool = False
    contexts: dict[str, bytes] = msgspec.field(default_factory=dict)


class PolicyAnswer(Message):
    """How many replicas the policy wants, by deployment key, and its states as JSON; or its traceback."""

    counts: dict[str, float] = msgspec.field(default_factory=dict)
    states: dict[str, bytes] = msgspec.field(default_factory=dict)
    error: str = ""


class LoadStats(Message):
    """Reply to `autoscaling_stats`: what the user's hook has returned, or its traceback."""

    values: dict[str, float] = msgspec.field(default_factory=dict)
    error: str = ""
