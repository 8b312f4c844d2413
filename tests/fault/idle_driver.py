"""A driver that starts an instance of obedient children and waits to be killed; says where it is on its first line."""

from __future__ import annotations

import os
import signal
import sys

from tests.contract.engine.rig import lean_config

from eagleray.engine.local import spawn_node

if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests that run under nohup hand on that it is ignored
    node = spawn_node(lean_config())
    if "fork" in sys.argv and os.fork() == 0:
        os.setsid()
        signal.pause()  # holds what the driver held, as a user's own forked worker does
    print(node.pid, node.runtime_dir, node.logs_dir, flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        node.close()
