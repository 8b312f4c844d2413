"""Whether a replica's requests are traced, and with what."""

from __future__ import annotations

import os

from eagleray.base.metrics import Registry
from eagleray.base.spans import Tracer, open_tracer
from eagleray.replica.intake import Intake
from eagleray.serve.context import process
from eagleray.wire.control import ReplicaLaunch


class ReplicaTracing:
    """What happens to spans is counted in `registry`."""

    def __init__(self, launch: ReplicaLaunch, registry: Registry) -> None:
        self._launch = launch
        self._registry = registry
        self._tracer: Tracer | None = None

    def begin(self, log_path: str, intake: Intake) -> None:
        """If tracing is on, makes this process one whose requests are traced, for handles and user code too.

        Once the user's code can be imported, for a function of his may be what exports.
        """
        launch = self._launch
        name = f"{launch.app}_{launch.deployment}"
        directory = launch.logs_dir or os.path.dirname(log_path)
        tracer = open_tracer(launch.tracing_config, name, launch.replica_id, directory, self._registry)
        if tracer is not None:
            from eagleray.serve.tracing import Tracing  # needs what is there only where tracing is on

            self._tracer = tracer
            process.tracing = Tracing(tracer)
            tracer.install()
            intake.trace(tracer)

    def close(self) -> None:
        """Exports what waits, within half a second."""
        if self._tracer is not None:
            self._tracer.close()
