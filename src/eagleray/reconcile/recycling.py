"""When a replica has served its time: by age, by memory, by its own wish.

A replica that has expired goes on serving; `reconcile.deployment` replaces it as it replaces an old version: the new
one first, a batch at a time. Replicas that were started together do not expire together: each has its own share of
the last `SPREAD` of its time, which follows from its id, so that it is the same after a restart of the controller.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eagleray.reconcile.instance import InstanceRow
    from eagleray.reconcile.target import Target

SPREAD = 0.1
"""The part of a limit over which replicas of one deployment are spread."""


def share(unique_id: str) -> float:
    """Of a replica: where in the spread it stands, in [0, 1)."""
    return zlib.crc32(unique_id.encode()) / 2**32


def ages_out_at(row: InstanceRow, target: Target) -> float | None:
    """When it will be too old, in monotonic seconds; None: never, or not known yet."""
    if target.max_replica_age_s is None or not row.up_at:
        return None
    return row.up_at + target.max_replica_age_s * (1 - SPREAD * share(row.unique_id))


def request_limit(unique_id: str, limit: int | None) -> int:
    """The number of the request after which it is to be replaced; 0: never."""
    return 0 if limit is None else max(int(limit * (1 - SPREAD * share(unique_id))), 1)


def outgrown(rss_bytes: int, target: Target | None) -> str:
    """Why a replica of this size is to be replaced, or nothing."""
    limit = target.max_replica_rss_bytes if target is not None else None
    if limit is None or rss_bytes <= limit:
        return ""
    return f"its memory of {rss_bytes} bytes is above max_replica_rss_bytes={limit}"
