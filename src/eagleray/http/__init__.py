"""HTTP/1.1 on both sides of the wire: the proxy's server protocol, and the replica's bridge from calls to ASGI."""
