"""Why a TCP port cannot be listened on, in words that say who has it and what to do."""

from __future__ import annotations

import errno
import os
import socket


def bind_tcp(host: str, port: int) -> socket.socket:
    """A bound TCP socket that does not listen yet. Raises OSError, for which `bind_problem` has words."""
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, proto)
    try:
        # SO_REUSEADDR against TIME_WAIT; never SO_REUSEPORT, under which a second server would share the port unseen.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def why_not_bound(host: str, port: int) -> str:
    """Why nobody could listen on the port now; empty when one could."""
    try:
        sock = bind_tcp(host, port)
        try:
            sock.listen(1)  # two sockets may be bound while none listens
        finally:
            sock.close()
    except OSError as error:
        return bind_problem(host, port, error)
    return ""


def bind_problem(host: str, port: int, error: OSError) -> str:
    """The error of a bind, for a person."""
    start = f"Failed to bind to address '{host}:{port}'."
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{start} '{host}' is not an address of this machine."
    if error.errno == errno.EADDRINUSE:
        holder = _holder_of(port)
        by = f" by {holder}" if holder else ""
        return f"{start} The port is in use{by}: stop it, or choose another port."
    if error.errno == errno.EACCES:
        return f"{start} Ports below 1024 need privileges: choose a higher one."
    return f"{start} {error.strerror or error}."


def _holder_of(port: int) -> str:
    """`process 123 (name)` that listens on `port`, or nothing when /proc does not tell."""
    inodes = _listening_inodes(port)
    for pid in filter(str.isdigit, os.listdir("/proc")) if inodes else ():
        try:
            with os.scandir(f"/proc/{pid}/fd") as entries:
                if any(os.readlink(entry.path) in inodes for entry in entries):
                    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                        return f"process {pid} ({file.read().strip()})"
        except OSError:  # somebody else's process, or one that has just ended
            continue
    return ""


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                rows = [line.split() for line in file.readlines()[1:]]
        except OSError:
            continue
        # columns of proc(5): local address is 1, state 3 (0A: listening), inode 9
        inodes |= {f"socket:[{row[9]}]" for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")}
    return inodes
