"""Entry of the controller's process: node forks it with the listener of `controller.sock` and a channel."""

from __future__ import annotations

import os

from eagleray.base import logs
from eagleray.base.process import Child, run_child
from eagleray.controller.boot import run_controller
from eagleray.engine.local import LocalEngine
from eagleray.store.sqlite import SqliteStore
from eagleray.wire.control import NodeConfig, decode


def main(child: Child) -> None:
    """Runs the controller until the instance has been shut down; a SIGTERM ends it, and changes nothing."""
    config = decode(child.payload, NodeConfig)
    logs.setup(
        "controller",
        str(os.getpid()),
        path=child.log_path,
        level=config.settings.get("log_level", "INFO"),
        owns_stdio=bool(child.log_path),
    )
    run_child(child, lambda: _run(child, config))


async def _run(child: Child, config: NodeConfig) -> None:
    assert child.listener is not None, "node binds controller.sock"
    engine = await LocalEngine.attach(child.node_fd, config)
    try:
        await run_controller(config, engine, SqliteStore(config.state_dir), child.listener)
    finally:
        await engine.close()
