"""Options of the instance and of its parts: HTTP, logging, back-pressure, where proxies run.

Unknown fields are refused everywhere: a misspelt option that is silently ignored costs its user hours.
"""

from __future__ import annotations

import logging
import math
import warnings
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from eagleray.spec.base import SpecModel
from eagleray.spec.old_names import without_queries

# Attributes that every LogRecord has by itself; `additional_log_standard_attrs` may name these only.
_LOG_RECORD_ATTRS = frozenset(
    logging.LogRecord("", 0, "", 0, "", (), None).__dict__.keys() | {"message", "asctime"}
)


class ProxyLocation(StrEnum):
    """Where HTTP proxies run. On one machine `HeadOnly` and `EveryNode` are the same."""

    Disabled = "Disabled"
    HeadOnly = "HeadOnly"
    EveryNode = "EveryNode"

    @classmethod
    def parse(cls, value: object) -> ProxyLocation:
        """Reads a `proxy_location`: None means every node. TypeError / ValueError for anything else unknown."""
        if value is None:
            return cls.EveryNode
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise TypeError(f"proxy_location must be a str or ProxyLocation, got {type(value).__name__}.")
        if value == "NoServer":
            return cls.Disabled
        try:
            return cls(value)
        except ValueError:
            names = ", ".join(member.value for member in cls)
            raise ValueError(f"proxy_location {value!r} is unknown; choose one of {names}.") from None


class HTTPOptions(SpecModel):
    """How the HTTP proxy listens and how long it waits. `host=None` starts no proxy."""

    host: str | None = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    root_url: str = ""
    root_path: str = ""
    request_timeout_s: float | None = Field(default=None, gt=0)
    keep_alive_timeout_s: float = Field(default=90, gt=0)
    # None leaves these to the proxy's defaults (`http.limits`).
    max_header_bytes: int | None = Field(default=None, ge=1)
    max_headers: int | None = Field(default=None, ge=1)
    max_url_bytes: int | None = Field(default=None, ge=1)
    max_request_body_bytes: int | None = Field(default=None, ge=0)
    header_timeout_s: float | None = Field(default=None, gt=0)
    min_body_rate: float | None = Field(default=None, ge=0)
    body_grace_s: float | None = Field(default=None, gt=0)
    response_stall_s: float | None = Field(default=None, gt=0)
    drop_underscore_headers: bool | None = None
    websocket_max_message_bytes: int | None = Field(default=None, ge=1, lt=1 << 30)
    websocket_compression: bool | None = None
    websocket_open_timeout_s: float | None = Field(default=None, ge=0)
    websocket_ping_interval_s: float | None = Field(default=None, ge=0)
    websocket_ping_timeout_s: float | None = Field(default=None, gt=0)
    websocket_idle_timeout_s: float | None = Field(default=None, gt=0)
    ssl_keyfile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile_password: str | None = None
    ssl_ca_certs: str | None = None
    location: ProxyLocation | None = None
    middlewares: list[Any] = Field(default_factory=list)
    num_cpus: int = 0

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, value: object) -> object:
        return without_queries(value)

    @field_validator("root_path")
    @classmethod
    def _check_root_path(cls, value: str) -> str:
        if value and not value.startswith("/"):
            raise ValueError(f"root_path must start with '/', got {value!r}")
        return value.rstrip("/")

    @field_validator("location", mode="before")
    @classmethod
    def _read_location(cls, value: object) -> object:
        if value is None:
            return None
        warnings.warn(
            "HTTPOptions.location is deprecated: use proxy_location.", DeprecationWarning, stacklevel=2
        )
        return ProxyLocation.parse(value)

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        if bool(self.ssl_keyfile) != bool(self.ssl_certfile):
            raise ValueError("ssl_keyfile and ssl_certfile must be given together")
        if self.middlewares:
            raise ValueError(
                "middlewares are not supported: add them to the ASGI app of the ingress deployment"
            )
        if self.num_cpus:
            raise ValueError("num_cpus must be 0: the proxy is not scheduled by CPU")
        return self


class gRPCOptions(SpecModel):  # noqa: N801, RUF100 - Ray Serve's name
    """How the gRPC proxy listens and whom it serves."""

    port: int = Field(
        default=9000, ge=0, le=65535, description="Where it listens; 0: there is no gRPC proxy."
    )
    grpc_servicer_functions: list[str] = Field(
        default_factory=list,
        description="Import paths of generated `add_XServicer_to_server` functions; none: there is no gRPC proxy.",
    )
    request_timeout_s: float | None = Field(
        default=None, gt=0, description="An RPC must have ended by then; beyond: DEADLINE_EXCEEDED."
    )
    enable_reflection: bool = Field(
        default=True, description="Server reflection describes the users' services."
    )
    host: str | None = Field(
        default=None, description="Address it binds; without one `EAGLERAY_GRPC_HOST`, which is loopback."
    )
    max_message_bytes: int = Field(
        default=64 * 2**20,
        ge=1,
        lt=2**30,
        description="A request or reply message; beyond: RESOURCE_EXHAUSTED.",
    )

    @property
    def is_served(self) -> bool:
        """Whether there is anything to serve."""
        return bool(self.grpc_servicer_functions) and self.port > 0


class BackpressureConfig(SpecModel):
    """What a client gets when the queue is full: 503 or 429, with `Retry-After` when `retry_after_s` is given."""

    status_code: Literal[503, 429] = 503
    retry_after_s: float | None = Field(default=None, ge=0)

    @field_validator("retry_after_s")
    @classmethod
    def _check_finite(cls, value: float | None) -> float | None:
        if value is not None and not math.isfinite(value):
            raise ValueError("retry_after_s must be finite")
        return value


class EncodingType(StrEnum):
    """How log records are written."""

    TEXT = "TEXT"
    JSON = "JSON"


class LoggingConfig(SpecModel):
    """Logging of replicas; the most specific one wins: deployment, then application, then instance."""

    encoding: EncodingType = EncodingType.TEXT
    log_level: str = "INFO"
    logs_dir: str | None = None
    enable_access_log: bool = True
    additional_log_standard_attrs: list[str] = Field(default_factory=list)

    @field_validator("log_level", mode="before")
    @classmethod
    def _read_level(cls, value: object) -> object:
        levels = logging.getLevelNamesMapping()
        if isinstance(value, int) and not isinstance(value, bool):
            name = logging.getLevelName(value)
            if name in levels:
                return name
        elif isinstance(value, str) and value in levels:
            return value
        raise ValueError(
            f"unknown log level {value!r}; choose one of {sorted(levels)} (upper case) or its number"
        )

    @field_validator("additional_log_standard_attrs")
    @classmethod
    def _check_attrs(cls, value: list[str]) -> list[str]:
        unknown = sorted(set(value) - _LOG_RECORD_ATTRS)
        if unknown:
            raise ValueError(f"unknown LogRecord attributes {unknown}; known: {sorted(_LOG_RECORD_ATTRS)}")
        return list(dict.fromkeys(value))


class TracingConfig(SpecModel):
    """Whether requests of an instance are traced, by what their spans are exported, and which share of new traces.

    What is not given is as the environment says (RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH, ..._SAMPLING_RATIO).
    `exporter_import_path` names a function without parameters that returns a list of OpenTelemetry's SpanProcessors;
    `otlp` stands for OTLP over HTTP; `file`, or nothing, for files in the directory `spans` of the logs.
    """

    enabled: bool = False
    exporter_import_path: str = ""
    sampling_ratio: float = Field(default=0.01, ge=0, le=1)


class ControllerEnv(SpecModel):
    """The part of a runtime environment that a controller may have."""

    env_vars: dict[str, str] = Field(default_factory=dict)


class ControllerOptions(SpecModel):
    """Environment variables of the controller process, `{"env_vars": {...}}`; nothing else may be given."""

    runtime_env: ControllerEnv = Field(default_factory=ControllerEnv)
