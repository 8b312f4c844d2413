"""In the controller's place: hands its channel to node to whoever connects, so that a test can be the controller.

It ends when that connection does, as a controller that has died.
"""

from __future__ import annotations

import os
import socket

from eagleray.base.process import Child


def main(child: Child) -> None:
    assert child.listener is not None
    child.listener.setblocking(True)
    connection, _ = child.listener.accept()
    socket.send_fds(connection, [str(os.getpid()).encode()], [child.node_fd])
    connection.recv(1)
