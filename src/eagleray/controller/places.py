"""Where things run, in Ray's words: this machine is the only node."""

from __future__ import annotations

import socket
from functools import cache

NODE_LABELS = ("node_id", "node_ip_address")


@cache
def node_labels() -> tuple[str, str]:
    """Values of `NODE_LABELS`: as in the details of the instance, the host's name and loopback."""
    return socket.gethostname(), "127.0.0.1"
