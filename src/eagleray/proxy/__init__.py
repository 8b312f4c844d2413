"""The HTTP proxy: one process that turns clients' requests into routed calls. It runs no user code."""
