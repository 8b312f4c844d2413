"""Messages that change a single deployment of what runs, and leave its code alone."""

from __future__ import annotations

from eagleray.wire.control import Message


class ScaleDeployment(Message):
    """Body of `scale`. Replies `Accepted`."""

    app: str
    deployment: str
    num_replicas: int


class ChangeDeployment(Message):
    """Body of `change`: `options` (JSON) are laid over those of a deployment. Replies `Accepted`."""

    app: str
    deployment: str
    options: bytes
