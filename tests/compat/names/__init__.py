"""Every name of Ray Serve's surface, and how it fares: the source of the tables in docs/compat.md."""
