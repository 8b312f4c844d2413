"""Surface 1.11 and 1.12: the config models that scripts pass in."""

from __future__ import annotations

from typing import Any

import pytest
from tests.compat.impl import differs, module

config = module("config")
schema = module("schema")


def test_http_options() -> None:
    options = config.HTTPOptions(host="127.0.0.1", port=9000, root_path="/x", request_timeout_s=3)
    assert (options.host, options.port, options.root_path, options.request_timeout_s) == (
        "127.0.0.1",
        9000,
        "/x",
        3,
    )
    defaults = config.HTTPOptions()
    assert (defaults.port, defaults.root_path, defaults.request_timeout_s) == (8000, "", None)


@pytest.mark.parametrize(
    "options", [{"port": "x"}, {"ssl_certfile": "cert.pem"}, {"middlewares": ["x"]}, {"num_cpus": 1}]
)
def test_bad_http_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        config.HTTPOptions(**options)


@differs("tls-key-without-certificate")
def test_a_tls_key_needs_its_certificate() -> None:
    with pytest.raises(ValueError):
        config.HTTPOptions(ssl_keyfile="key.pem")


@differs("http-options-extras")
def test_unknown_http_options_are_refused() -> None:
    with pytest.raises(ValueError):
        config.HTTPOptions(prot=8000)


def test_proxy_location_is_a_string() -> None:
    assert config.ProxyLocation.EveryNode == "EveryNode"
    assert [item.value for item in config.ProxyLocation] == ["Disabled", "HeadOnly", "EveryNode"]


def test_backpressure_config() -> None:
    found = config.BackpressureConfig(status_code=429, retry_after_s=2.5)
    assert (found.status_code, found.retry_after_s) == (429, 2.5)
    assert (config.BackpressureConfig().status_code, config.BackpressureConfig().retry_after_s) == (503, None)
    for bad in ({"status_code": 500}, {"retry_after_s": -1}, {"retry_after_s": float("inf")}, {"other": 1}):
        with pytest.raises(ValueError):
            config.BackpressureConfig(**bad)


def test_controller_options_take_environment_variables_only() -> None:
    config.ControllerOptions(runtime_env={"env_vars": {"A": "1"}})
    for bad in ({"runtime_env": {"pip": ["x"]}}, {"num_cpus": 1}):
        with pytest.raises(ValueError):
            config.ControllerOptions(**bad)


def test_logging_config() -> None:
    defaults = schema.LoggingConfig()
    assert (defaults.encoding, defaults.log_level, defaults.logs_dir) == ("TEXT", "INFO", None)
    assert (defaults.enable_access_log, defaults.additional_log_standard_attrs) == (True, [])
    assert schema.LoggingConfig(log_level=10).log_level == "DEBUG"
    assert schema.LoggingConfig(encoding="JSON").encoding == schema.EncodingType.JSON
    found = schema.LoggingConfig(additional_log_standard_attrs=["name", "name", "process"])
    assert sorted(found.additional_log_standard_attrs) == ["name", "process"]


@pytest.mark.parametrize(
    "options",
    [
        {"encoding": "XML"},
        {"log_level": "info"},
        {"log_level": "LOUD"},
        {"unknown": 1},
        {"additional_log_standard_attrs": ["no_such_attribute"]},
    ],
)
def test_bad_logging_config_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        schema.LoggingConfig(**options)
