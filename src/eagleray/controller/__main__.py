"""Entry of the controller's process: node forks it with the listener of `controller.sock` and a channel."""

from __future__ import annotations

import logging

from eagleray.base import logs
from eagleray.base.process import Child, run_child
from eagleray.controller.boot import run_controller
from eagleray.controller.logging import component
from eagleray.engine.local import LocalEngine
from eagleray.store.base import StoreError
from eagleray.store.sqlite import SqliteStore
from eagleray.wire.control import NodeConfig, decode

logger = logging.getLogger("eagleray.controller")


def main(child: Child) -> None:
    """Runs the controller until the instance has been shut down; a SIGTERM ends it, and changes nothing."""
    config = decode(child.payload, NodeConfig)
    logs.setup(
        component(),
        logs.LogOptions.read(config.logging_config),
        path=child.log_path,
        owns_stdio=bool(child.log_path),
    )
    run_child(child, lambda: _run(child, config))


async def _run(child: Child, config: NodeConfig) -> None:
    assert child.listener is not None, "node binds controller.sock"
    engine = await LocalEngine.attach(child.node_fd, config)
    try:
        await run_controller(config, engine, SqliteStore(config.state_dir), child.listener)
    except StoreError as error:
        # Told now: node kills a controller whose channel has ended, at once and before its traceback.
        logger.critical("The controller cannot start, and is tried again: %s", error)
        raise
    finally:
        await engine.close()
