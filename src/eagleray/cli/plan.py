"""What the command line of `eagleray run` asks for: an import path, or a config file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
    config: ConfigPlan | None = None
    """A config file in place of an import path."""
    env_vars: dict[str, str] = field(default_factory=dict)
    """Of the builder of an import path."""

    @property
    def applications(self) -> dict[str, str | None]:
        """Name -> route prefix of everything that is to be served."""
        return {self.name: self.route_prefix} if self.config is None else self.config.applications


@dataclass(frozen=True)
class ConfigPlan:
    """A config file that was read and found right; `data` is what is sent, `options` what node starts with."""

    source: str
    data: bytes
    applications: dict[str, str | None]
    warnings: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
