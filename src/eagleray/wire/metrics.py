"""How processes tell the controller what they have counted. Totals since the process's start, so nothing has to arrive.

A replica and a proxy answer the streaming call `metrics`, whose DATA chunks are `Shipment`s: the first one tells
everything, later ones what has changed. A driver, whom nobody dials, calls the controller's `metrics` with the same.
"""

from __future__ import annotations

import msgspec

from eagleray.base.metrics import Snapshot
from eagleray.wire.control import Message


class Shipment(Message):
    """What has changed. `subscriber` is the driver's name in `Watch`; empty where the connection says who it is."""

    snapshots: list[Snapshot] = msgspec.field(default_factory=list)
    subscriber: str = ""
    is_whole: bool = False
    """Everything is told: a gauge that is not here has gone."""
