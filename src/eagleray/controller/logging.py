"""The controller's own logs follow the logging_config that a config file has for the whole instance."""

from __future__ import annotations

import os

from eagleray.base import logs
from eagleray.reconcile.world import World
from eagleray.wire.control import NodeConfig


def component() -> logs.Component:
    """The controller, as its lines name it."""
    return logs.Component("controller", str(os.getpid()))


def follow_declared(world: World, config: NodeConfig) -> None:
    """Writes as was declared last, or else as the instance was started."""
    declared = world.declared.get("logging_config") or config.logging_config
    logs.adjust(component(), logs.LogOptions.read(declared))
