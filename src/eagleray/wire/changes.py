"""Messages that change a single deployment of what runs, and leave its code alone."""

from __future__ import annotations

from eagleray.wire.control import Message


class ScaleDeployment(Message):
    """Body of `scale`. Replies `Accepted`."""

    app: str
    deployment: str
    num_replicas: int
