"""Whether a replica's requests are traced, and with what."""

from __future__ import annotations

import os

from eagleray.base.metrics import Registry
from eagleray.base.spans import Tracer, open_tracer
from eagleray.serve.context import process
from eagleray.wire.control import ReplicaLaunch


def begin_tracing(launch: ReplicaLaunch, registry: Registry, log_path: str) -> Tracer | None:
    """Makes this process one whose requests are traced, for handles, batches and user code too; None: it is not.

    Once the user's code can be imported, for a function of his may be what exports.
    """
    name = f"{launch.app}_{launch.deployment}"
    directory = launch.logs_dir or os.path.dirname(log_path)
    tracer = open_tracer(launch.tracing_config, name, launch.replica_id, directory, registry)
    if tracer is not None:
        from eagleray.serve.tracing import Tracing  # needs what is there only where tracing is on

        process.tracing = Tracing(tracer)
        tracer.install()
    return tracer
