"""Makes what a `runtime_env` asks for, in a child of node's: unpacked archives and installed packages, both cached."""
