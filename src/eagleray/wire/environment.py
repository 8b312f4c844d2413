"""What the controller and the child that makes an environment say to each other."""

from __future__ import annotations

import msgspec

from eagleray.wire.control import Message


class EnvironmentLaunch(Message):
    """A child that makes one environment, answers `prepare` once and ends. `recipe` is `RuntimeEnv.recipe`."""

    recipe: str


class Prepared(Message):
    """An environment that is ready: interpreter ("": node's own), directory to be in, and entries of sys.path."""

    python: str = ""
    working_dir: str = ""
    paths: list[str] = msgspec.field(default_factory=list)
    holds: list[str] = msgspec.field(default_factory=list)
    error: str = ""
