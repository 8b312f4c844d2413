"""Accepting connections on a listening socket that somebody else has bound, with or without TLS.

The socket belongs to node, so clients that connect while a proxy is replaced wait in its backlog. When the process
runs out of file descriptors, accepting pauses: clients wait in the backlog too, present connections are unaffected,
the descriptors held in reserve are free for what serves them, and accepting resumes as soon as there is room again.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any

from eagleray.base.errors import ConfigError
from eagleray.base.tasks import Tasks

logger = logging.getLogger("eagleray.http")

_ACCEPTS_PER_TURN = 64
"""Connections accepted before the loop serves those that it has."""

_RESERVE = 8
"""Descriptors kept back, so that a full process can still dial a replica or rotate its log."""

_RETRY_S = 1.0
"""When accepting is tried again although no connection has ended."""

_TLS_HANDSHAKE_S = 10.0
"""A client that has not finished its handshake by then is cut off; the same as the header timeout."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def raise_descriptor_limit() -> int:
    """Raises the soft limit of open files to the hard one; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def tls_context(options: Mapping[str, Any]) -> ssl.SSLContext | None:
    """The TLS context of HTTP options, or None without `ssl_keyfile` and `ssl_certfile`. Raises ConfigError.

    With `ssl_ca_certs` a client may show a certificate, and one that those do not vouch for is turned away.
    """
    keyfile, certfile = options.get("ssl_keyfile"), options.get("ssl_certfile")
    if not keyfile and not certfile:
        return None
    if not keyfile or not certfile:
        raise ConfigError("ssl_keyfile and ssl_certfile must be given together")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # An empty password instead of None: OpenSSL would otherwise ask on the terminal.
        context.load_cert_chain(certfile, keyfile, options.get("ssl_keyfile_password") or "")
        if options.get("ssl_ca_certs"):
            context.load_verify_locations(options["ssl_ca_certs"])
            context.verify_mode = ssl.CERT_OPTIONAL
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"TLS cannot be set up with '{certfile}' and '{keyfile}': {error}") from None
    return context


class Listener:
    """Accepts on `sock`, which it does not close, and gives each connection a protocol of `factory`."""

    def __init__(
        self,
        sock: socket.socket,
        factory: Callable[[], asyncio.BaseProtocol],
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._sock = sock
        self._factory = factory
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks("http listener")
        self._accepting = False
        self._closed = False
        self._reserve: list[int] = []
        self._retry: asyncio.TimerHandle | None = None

    @property
    def is_paused(self) -> bool:
        """Whether accepting waits for file descriptors."""
        return self._retry is not None

    def start(self) -> None:
        """Begins to accept."""
        self._sock.setblocking(False)
        self._hold_reserve()
        self._resume()

    def stop(self) -> None:
        """Accepts no more; connections that are not accepted yet stay in the backlog. Idempotent."""
        self._closed = True
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self._sock.fileno())
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._drop_reserve()

    async def finish(self, timeout_s: float) -> None:
        """Accepts what has connected by now, and no more; returns when handshakes are done, but in `timeout_s`."""
        while self._accepting and not self._accept():
            pass
        self.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._tasks.join()

    async def close(self) -> None:
        """Stops and ends handshakes that are under way."""
        self.stop()
        await self._tasks.close()

    def on_descriptor_freed(self) -> None:
        """A connection has ended: accept again if that was what we waited for."""
        if self._retry is not None:
            self._try_again()

    def _resume(self) -> None:
        if not self._accepting and not self._closed:
            self._accepting = True
            self._loop.add_reader(self._sock.fileno(), self._accept)

    def _accept(self) -> bool:
        """Says whether nobody else waits."""
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                sock, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError) as error:
                return isinstance(error, BlockingIOError)
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._pause(error)
                return False
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._tasks.start(self._connect(sock), name="accept")
        return False

    async def _connect(self, sock: socket.socket) -> None:
        options: dict[str, Any] = {}
        if self._tls is not None:
            options = {"ssl": self._tls, "ssl_handshake_timeout": _TLS_HANDSHAKE_S}
        try:
            await self._loop.connect_accepted_socket(self._factory, sock, **options)
        except (OSError, ssl.SSLError, TimeoutError) as error:
            # Scanners and clients that distrust the certificate; nothing of ours has failed.
            logger.debug("a connection ended before it was established: %s", error)
            sock.close()
        except BaseException:
            sock.close()
            raise

    # ---- out of file descriptors -----------------------------------------------------------------------------

    def _pause(self, error: OSError) -> None:
        logger.warning("Accepting pauses, because the process is out of file descriptors: %s", error)
        self._accepting = False
        self._loop.remove_reader(self._sock.fileno())
        self._drop_reserve()
        self._retry = self._loop.call_later(_RETRY_S, self._try_again)

    def _try_again(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._closed:
            return
        if self._hold_reserve():
            self._resume()
        else:
            self._retry = self._loop.call_later(_RETRY_S, self._try_again)

    def _hold_reserve(self) -> bool:
        """Takes the descriptors in reserve; False, and none held, when there are not that many."""
        try:
            while len(self._reserve) < _RESERVE:
                self._reserve.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            self._drop_reserve()
            return False
        return True

    def _drop_reserve(self) -> None:
        while self._reserve:
            os.close(self._reserve.pop())
