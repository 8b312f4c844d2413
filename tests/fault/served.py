"""The application of the fault tests: each answer is the pid of the replica that gave it."""

from __future__ import annotations

import asyncio
import os

from eagleray import serve

WORK_S = 0.02
"""Time that a request takes, so that some are always under way in every replica."""


@serve.deployment(num_replicas=3, max_ongoing_requests=20)
class Pid:
    async def __call__(self) -> str:
        await asyncio.sleep(WORK_S)
        return str(os.getpid())


app = Pid.bind()
