"""A replica whose loop is blocked, or whose interpreter is held: requests go round it, and none fails."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import wait_until

from eagleray import serve
from eagleray.serve.context import process

pytestmark = pytest.mark.usefixtures("instance")

KEY = "busy#Busy"


def hold_until_told(directory: str) -> None:
    """As a C extension that does not release the GIL: no other thread of this process runs meanwhile."""
    Path(directory, str(os.getpid())).touch()
    while not os.path.exists(f"{directory}/go"):
        ctypes.PyDLL(None).usleep(50_000)


@serve.deployment(num_replicas=2, max_ongoing_requests=100)
class Busy:
    async def __call__(self) -> int:
        return os.getpid()

    async def block(self, directory: str) -> int:
        """Until there is a file `go`, and tells by another one that it has begun."""
        hold_until_told(directory)
        return os.getpid()


def targets() -> list[Any]:
    assert process.runtime is not None
    router: Any = process.runtime._router
    pool = router._pools.get(KEY)
    return list(pool.targets) if pool is not None else []


def connected(handle: Any) -> None:
    """The driver has a connection with both replicas."""
    handle.remote().result(timeout_s=30)
    wait_until(
        lambda: len(targets()) == 2 and all(target.client is not None for target in targets()), "connections"
    )


def test_requests_go_round_a_busy_replica_and_come_back(tmp_path: Path) -> None:
    handle = serve.run(Busy.bind(), name="busy", route_prefix=None)
    connected(handle)
    blocked = handle.block.remote(str(tmp_path))
    wait_until(lambda: len(os.listdir(tmp_path)) == 1, "a blocked replica", 30.0)
    pid = int(os.listdir(tmp_path)[0])
    early = [handle.remote() for _ in range(20)]

    wait_until(lambda: [target.is_busy for target in targets()].count(True) == 1, "it is busy", 30.0)
    assert pid not in {handle.remote().result(timeout_s=30) for _ in range(20)}
    assert pid not in {response.result(timeout_s=30) for response in [handle.remote() for _ in range(50)]}

    Path(tmp_path, "go").touch()
    assert blocked.result(timeout_s=30) == pid
    assert len([response.result(timeout_s=30) for response in early]) == 20
    wait_until(lambda: not any(target.is_busy for target in targets()), "it answers", 30.0)
    assert {handle.broadcast("__call__").results(timeout_s=30)[0] for _ in range(3)}
    pids = {response.result(timeout_s=30) for response in [handle.remote() for _ in range(100)]}
    assert pid in pids and len(pids) == 2


def test_none_is_avoided_when_all_are_busy(tmp_path: Path) -> None:
    handle = serve.run(Busy.bind(), name="busy", route_prefix=None)
    connected(handle)
    blocked = handle.broadcast("block", str(tmp_path))
    wait_until(lambda: len(os.listdir(tmp_path)) == 2, "blocked replicas", 30.0)
    waiting = [handle.remote() for _ in range(10)]
    wait_until(lambda: sum(target.in_flight for target in targets()) == 12, "all are sent", 30.0)
    wait_until(lambda: not any(target.is_busy for target in targets()), "nobody is avoided", 30.0)
    Path(tmp_path, "go").touch()
    assert len(blocked.results(timeout_s=30)) == 2
    assert len([response.result(timeout_s=30) for response in waiting]) == 10
