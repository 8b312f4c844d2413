"""A replica's logs: where its lines go, what they say of the request, and its access log.

Another logging_config takes effect while the replica runs. A file outside of the instance's directory of logs leaves a
link there, by which `eagleray logs` finds it, also when the replica and its controller have gone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from eagleray.base import logs
from eagleray.base.access_log import AccessLog
from eagleray.base.log_files import leave_link
from eagleray.replica.call import Floor
from eagleray.serve.context import current_request
from eagleray.wire.control import ReplicaLaunch


class ReplicaLogs:
    """`path` is the file that this process writes to now; empty: standard error.

    `attach`, `renew` and `flush` are for the user's loop, to which the access log belongs.
    """

    def __init__(self, launch: ReplicaLaunch, path: str) -> None:
        self._home = launch.logs_dir
        self.path = path
        name = f"{launch.app}_{launch.deployment}"
        # Ray Serve's names and values: `deployment` begins with the application there, too.
        fields = {
            "component_name": "replica",
            "component_id": launch.replica_id,
            "application": launch.app,
            "deployment": name,
            "replica": launch.replica_id,
        }
        self._component = logs.Component(name, launch.replica_id, fields)
        self._access: AccessLog | None = None
        self._floor: Floor | None = None

    def apply(self, config: Mapping[str, Any]) -> None:
        """Writes as `config` (a LoggingConfig as JSON) says from now on. Raises OSError when that cannot be."""
        options = logs.LogOptions.read(config)
        path = self.path
        if path:
            directory = os.path.join(self._home, options.logs_dir) if options.logs_dir else self._home
            path = os.path.join(directory or os.path.dirname(path), os.path.basename(path))
            if path != self.path:
                os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        logs.setup(self._component, options, path=path, scope=current_request, owns_stdio=bool(path))
        self.path = path
        if path and self._home:
            leave_link(self._home, path)
        self._access = logs.open_access_log(self._component, options)

    def attach(self, floor: Floor) -> None:
        """Calls of `floor` are logged as was said last."""
        self._floor = floor
        floor.log_calls(self._access)

    def renew(self) -> None:
        """The same after another `apply`."""
        self.flush()
        if self._floor is not None:
            self._floor.log_calls(self._access)

    def flush(self) -> None:
        """Writes what is still to be written of the access log."""
        if self._floor is not None and self._floor.access is not None:
            self._floor.access.flush()
