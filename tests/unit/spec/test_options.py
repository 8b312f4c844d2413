"""Options of the instance: HTTP, logging, proxy location, controller; and the JSON form of statuses."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from eagleray.spec.options import ControllerOptions, HTTPOptions, LoggingConfig, ProxyLocation, TracingConfig
from eagleray.spec.status import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
    ProxyStatus,
    ReplicaState,
    ServeStatus,
)


def test_http_defaults() -> None:
    options = HTTPOptions()
    assert (options.host, options.port, options.root_path) == ("127.0.0.1", 8000, "")
    assert (options.request_timeout_s, options.keep_alive_timeout_s) == (None, 90)


@pytest.mark.parametrize(
    "options",
    [
        {"ssl_keyfile": "key"},
        {"ssl_certfile": "cert"},
        {"middlewares": [complex]},
        {"num_cpus": 1},
        {"port": 65536},
        {"root_path": "api"},
        {"request_timeout_s": 0},
        {"prot": 8000},
    ],
    ids=str,
)
def test_wrong_http_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HTTPOptions.model_validate(options)


def test_the_location_of_http_options_is_deprecated() -> None:
    with pytest.warns(DeprecationWarning):
        assert HTTPOptions.model_validate({"location": "NoServer"}).location is ProxyLocation.Disabled


def test_proxy_locations_are_read_from_names() -> None:
    assert ProxyLocation.parse(None) is ProxyLocation.EveryNode
    assert ProxyLocation.parse("HeadOnly") is ProxyLocation.HeadOnly
    assert ProxyLocation.parse("NoServer") is ProxyLocation.Disabled
    with pytest.raises(ValueError):
        ProxyLocation.parse("Somewhere")
    with pytest.raises(TypeError):
        ProxyLocation.parse(3)


def test_log_levels_are_normalised() -> None:
    assert LoggingConfig(log_level=logging.DEBUG).log_level == "DEBUG"  # type: ignore[arg-type]
    assert LoggingConfig(additional_log_standard_attrs=["name", "name"]).additional_log_standard_attrs == [
        "name"
    ]
    for wrong in ({"log_level": "info"}, {"log_level": 11}, {"log_level": True}, {"encoding": "XML"}):
        with pytest.raises(ValidationError):
            LoggingConfig.model_validate(wrong)
    with pytest.raises(ValidationError):
        LoggingConfig(additional_log_standard_attrs=["nothing"])


def test_a_controller_takes_environment_variables_only() -> None:
    options = ControllerOptions.model_validate({"runtime_env": {"env_vars": {"A": "1"}}})
    assert options.runtime_env.env_vars == {"A": "1"}
    for wrong in ({"runtime_env": {"pip": []}}, {"num_cpus": 1}, {"runtime_env": {"env_vars": {"A": 1}}}):
        with pytest.raises(ValidationError):
            ControllerOptions.model_validate(wrong)


def test_a_status_survives_json() -> None:
    deployment = DeploymentStatusOverview(
        DeploymentStatus.HEALTHY,
        DeploymentStatusTrigger.CONFIG_UPDATE_COMPLETED,
        {ReplicaState.RUNNING: 2},
        "fine",
    )
    status = ServeStatus(
        {"p": ProxyStatus.HEALTHY},
        {"app": ApplicationStatusOverview(ApplicationStatus.RUNNING, "", 1.5, {"d": deployment})},
    )
    assert ServeStatus.from_json(status.to_json()) == status
    assert status.applications["app"].status == "RUNNING"
    with pytest.raises(msgspec.ValidationError):
        ServeStatus.from_json(b'{"applications": 3}')


def test_tracing() -> None:
    assert TracingConfig().model_dump() == {
        "enabled": False,
        "exporter_import_path": "",
        "sampling_ratio": 0.01,
    }
    for wrong in (
        {"sampling_ratio": 1.1},
        {"sampling_ratio": -0.1},
        {"exporter": "x"},
        {"enabled": "perhaps"},
    ):
        with pytest.raises(ValidationError):
            TracingConfig.model_validate(wrong)
