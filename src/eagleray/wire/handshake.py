"""The first frames of a connection: protocol version, and over TCP a mutual proof of the shared secret.

    client: HELLO(version, nonce_c)
    server: HELLO(version, nonce_s, HMAC-SHA256(secret, "server" nonce_c nonce_s))
    client: HELLO(version, "", HMAC-SHA256(secret, "client" nonce_c nonce_s))

The labels keep one side's proof from being played back as the other's. Over a Unix socket the kernel vouches for the
peer, so the secret is absent and one HELLO each way is all; the client does not wait for the server's.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from eagleray.base.errors import ProtocolError

VERSION = 1
NONCE_SIZE = 32
"""Bytes; as long as the HMAC, so that guessing one is no easier than guessing the other."""
MAX_HELLO = 256
"""Bytes of a HELLO's head: all that an unauthenticated peer may make us keep."""


class Hello(msgspec.Struct, array_like=True, frozen=True):
    version: int
    nonce: bytes = b""
    proof: bytes = b""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Hello).decode


class Handshake:
    """One side of it. `secret` is None where the kernel vouches for the peer; `nonce` is fresh random bytes."""

    def __init__(self, *, server: bool, secret: bytes | None, nonce: bytes) -> None:
        self._server = server
        self._secret = secret
        self._nonce = nonce if secret is not None else b""
        self._client_nonce = b""
        self._heard = False
        self.done = False

    def begin(self) -> bytes | None:
        """The head of the HELLO to send unasked."""
        return None if self._server else _encode(Hello(VERSION, self._nonce))

    def receive(self, head: bytes) -> bytes | None:
        """Takes the peer's HELLO; returns the head of the HELLO to answer with. Raises ProtocolError."""
        try:
            hello = _decode(head)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"malformed HELLO: {error}") from None
        if hello.version != VERSION:
            raise ProtocolError(f"the peer speaks wire version {hello.version}, we speak {VERSION}")
        return self._receive_server(hello) if self._server else self._receive_client(hello)

    def _receive_server(self, hello: Hello) -> bytes | None:
        if self._secret is None:
            self.done = True
            return _encode(Hello(VERSION))
        if not self._heard:
            self._heard = True
            if len(hello.nonce) != NONCE_SIZE:
                raise ProtocolError("the client sent no challenge")
            self._client_nonce = hello.nonce
            return _encode(Hello(VERSION, self._nonce, self._proof(b"server", hello.nonce, self._nonce)))
        if not hmac.compare_digest(hello.proof, self._proof(b"client", self._client_nonce, self._nonce)):
            raise ProtocolError("the client does not know the secret")
        self.done = True
        return None

    def _receive_client(self, hello: Hello) -> bytes | None:
        self.done = True
        if self._secret is None:
            return None
        if len(hello.nonce) != NONCE_SIZE or not hmac.compare_digest(
            hello.proof, self._proof(b"server", self._nonce, hello.nonce)
        ):
            self.done = False
            raise ProtocolError("the server does not know the secret")
        return _encode(Hello(VERSION, b"", self._proof(b"client", self._nonce, hello.nonce)))

    def _proof(self, label: bytes, client_nonce: bytes, server_nonce: bytes) -> bytes:
        assert self._secret is not None
        return hmac.new(self._secret, label + client_nonce + server_nonce, hashlib.sha256).digest()
