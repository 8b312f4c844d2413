"""Settings of the process: every EAGLERAY_* environment variable there is, read here and nowhere else.

There are few on purpose: what belongs to an application or to an instance is an option of the public API. A field is
the variable of the same name: `http_port` is EAGLERAY_HTTP_PORT.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from eagleray.base.errors import ConfigError

PREFIX = "EAGLERAY_"


def _setting(default: Any, doc: str, ray: str = "") -> Any:
    """`ray` is Ray Serve's variable of the same meaning, which counts where ours is not set."""
    return field(default=default, metadata={"doc": f"{doc} Also {ray}." if ray else doc, "ray": ray})


@dataclass(frozen=True)
class Settings:
    """What the environment says; fields without a variable have the defaults."""

    http_host: str = _setting(
        "127.0.0.1",
        "Address of the HTTP proxy where HTTPOptions names none.",
        "RAY_SERVE_DEFAULT_HTTP_HOST",
    )
    http_port: int = _setting(8000, "Port of the HTTP proxy where HTTPOptions names none.")
    grpc_host: str = _setting("127.0.0.1", "Address of the gRPC proxy where gRPCOptions names none.")
    log_level: str = _setting("INFO", "Level of components and deployments without a logging_config.")
    admin_port: int = _setting(
        8265, "Port of the admin REST server on 127.0.0.1, or the next free one. 0: any, -1: there is none."
    )
    admin_hosts: str = _setting(
        "", "Names, with commas between, that requests to the REST server may have as Host beside loopback's."
    )
    token: str = _setting("", "Token that the command line sends to a REST server that `--address` names.")
    token_file: str = _setting("", "File with that token.")
    state_home: str = _setting(
        "", "Directory of sessions (state and logs); XDG_STATE_HOME/eagleray otherwise."
    )
    state_dir: str = _setting(
        "",
        "State and logs of the instance of `eagleray start`, kept over its lives; STATE_HOME/main otherwise.",
    )
    runtime_home: str = _setting(
        "", "Directory of sockets; XDG_RUNTIME_DIR/eagleray or a private one otherwise."
    )
    runtime_dir: str = _setting("", "The running instance that this process belongs to; set in children.")
    attach: bool = _setting(
        True,
        "`serve.run` and its sisters use the instance of `eagleray start` while it runs; 0: one of their own.",
    )
    drain_delay_s: int = _setting(
        5,
        "Seconds from SIGTERM, at which readiness flips, until an instance of `eagleray start` drains; "
        "-1: it ends at once.",
    )
    keep_sessions: int = _setting(10, "Sessions whose state and logs are kept.")
    environment_home: str = _setting(
        "", "Directory of installed environments; XDG_CACHE_HOME/eagleray/environments otherwise."
    )
    environment_cache_mb: int = _setting(
        10240, "MiB of environments that are kept; beyond, those that were not used for longest go."
    )
    environment_timeout_s: int = _setting(
        600, "Seconds that the packages of a runtime_env may take to install."
    )
    num_gpus: int = _setting(-1, "Number of GPUs to account for, -1: those that are found.")
    resources: str = _setting("", 'Custom resources of this machine, as JSON such as {"scanner": 2}.')
    shared_memory_mb: int = _setting(
        512, "MiB of memory in which a process sends large values; beyond, they go by socket. 0: always."
    )
    shared_memory_idle_s: int = _setting(
        5, "Seconds after which such memory is given back when it is not used."
    )
    run_sync_in_threadpool: bool = _setting(
        True,
        "Sync methods run in a thread pool; 0: on the user's event loop.",
        "RAY_SERVE_RUN_SYNC_IN_THREADPOOL",
    )
    as_ray: bool = _setting(
        False,
        "The code of an application imports Eagleray under Ray's names (docs/as-ray.md); among the `env_vars` of its "
        "runtime_env.",
    )
    local_testing_mode: bool = _setting(
        False,
        "`serve.run` runs applications in the calling process, as `_local_testing_mode=True`.",
        "RAY_SERVE_FORCE_LOCAL_TESTING_MODE",
    )
    metrics_export_port: int = _setting(
        -1,
        "Port on 127.0.0.1 that serves `/metrics` alone, without a token. 0: any, told in the controller's log and in "
        "`metrics.url` of the runtime directory; -1: there is none.",
    )
    metrics: bool = _setting(
        True, "Requests are counted and GET /metrics tells of them; 0: nothing is counted."
    )
    log_encoding: str = _setting(
        "TEXT", "TEXT or JSON: logs where no logging_config says which.", "RAY_SERVE_LOG_ENCODING"
    )
    log_to_stderr: bool = _setting(
        False,
        "`eagleray run` and `start --block` print the lines of all logs on standard error.",
        "RAY_SERVE_LOG_TO_STDERR",
    )
    log_client_address: bool = _setting(
        False, "The access log names the client's address.", "RAY_SERVE_LOG_CLIENT_ADDRESS"
    )
    log_buffer_lines: int = _setting(
        512,
        "Lines of the access log that are written at once, at the latest after half a second. 1: each by itself.",
        "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE",
    )
    log_rotate_bytes: int = _setting(
        67108864, "A log file that would grow beyond is renamed. 0: never.", "RAY_ROTATION_MAX_BYTES"
    )
    log_backups: int = _setting(
        5, "Renamed log files that are kept of each component.", "RAY_ROTATION_BACKUP_COUNT"
    )
    tracing_exporter: str = _setting(
        "",
        "`otlp`, `file`, or the import path of a function that gives span processors: requests are traced unless a "
        "tracing_config says otherwise.",
        "RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH",
    )
    tracing_sampling_ratio: float = _setting(
        0.01, "Share of new traces that is recorded.", "RAY_SERVE_TRACING_SAMPLING_RATIO"
    )
    server_timing: bool = _setting(
        False,
        "Every HTTP answer says where its time went; else those to requests with `x-eagleray-timing: 1`.",
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Raises ConfigError that names every variable that cannot be read."""
        source = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        errors: list[str] = []
        for item in fields(cls):
            name = PREFIX + item.name.upper()
            text = source.get(name)
            if text is None and (ray := item.metadata["ray"]):
                name, text = ray, source.get(ray)
            if text is None:
                continue
            try:
                values[item.name] = _parse(text, type(item.default))
            except ValueError as error:
                errors.append(f"{name}={text!r}: {error}")
        if errors:
            raise ConfigError("Environment variables that cannot be read:\n  " + "\n  ".join(errors))
        return cls(**values)


def _parse(text: str, kind: type) -> str | int | bool | float:
    if kind is bool:
        known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        if text.lower() not in known:
            raise ValueError("write 1 or 0")
        return known[text.lower()]
    if kind is int:
        try:
            return int(text)
        except ValueError:
            raise ValueError("write a whole number") from None
    if kind is float:
        return _parse_share(text)
    return text


def _parse_share(text: str) -> float:
    """All settings with a fraction are shares."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError("write a number between 0 and 1")
    return value


def state_home(settings: Settings) -> str:
    """The directory of what outlives an instance; it need not exist yet."""
    return settings.state_home or os.path.join(
        os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), "eagleray"
    )


def set_default(name: str, value: str) -> None:
    """A variable that a library of this process reads, unless the user has set it."""
    os.environ.setdefault(name, value)
