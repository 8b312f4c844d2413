"""What the command line of `eagleray run` asks for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """One run. `app_dir` is absolute; `route_prefix` None: no HTTP."""

    import_path: str
    arguments: dict[str, str]
    app_dir: str
    host: str
    port: int
    route_prefix: str | None
    name: str
    reload: bool
    grpc_port: int = 9000
    grpc_servicer_functions: tuple[str, ...] = ()
    """Empty: no gRPC."""
