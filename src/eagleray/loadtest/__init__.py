"""Load on an HTTP server, open or closed loop, and what becomes of each request: the engine of `eagleray bench`."""
