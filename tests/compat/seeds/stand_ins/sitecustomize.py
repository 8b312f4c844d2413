"""Imported by each Python process of a program: hosts of articles are this machine, at the port of the program."""

import os
import socket
from typing import Any

HOSTS = {"vllm", b"vllm"}  # those of `surroundings.HOSTS`
_lookup = socket.getaddrinfo


def _lookup_here(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
    if host in HOSTS:
        host, port = "127.0.0.1", int(os.environ["SEED_PORT"])
    return _lookup(host, port, *args, **kwargs)


socket.getaddrinfo = _lookup_here
