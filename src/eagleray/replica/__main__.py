"""The replica role: what node runs in a forked child."""

from __future__ import annotations

from eagleray.base.process import Child, run_child
from eagleray.replica.worker import Worker
from eagleray.wire.control import ReplicaLaunch, decode


def main(child: Child) -> None:
    """Serves one deployment on the child's socket until it is drained or told to stop."""
    listener = child.listener
    assert listener is not None, "a replica needs its socket"
    worker = Worker(decode(child.payload, ReplicaLaunch), child.log_path)
    run_child(child, lambda: worker.run(listener))
