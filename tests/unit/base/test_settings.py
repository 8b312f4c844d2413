from __future__ import annotations

import pytest

from eagleray.base.errors import ConfigError
from eagleray.base.settings import Settings


def test_defaults_without_variables() -> None:
    assert Settings.from_env({}) == Settings()


def test_variables_are_read_by_their_type() -> None:
    settings = Settings.from_env(
        {"EAGLERAY_HTTP_PORT": "9000", "EAGLERAY_LOG_CLIENT_ADDRESS": "1", "EAGLERAY_HTTP_HOST": "0.0.0.0"}
    )
    assert (settings.http_port, settings.log_client_address, settings.http_host) == (9000, True, "0.0.0.0")


def test_ray_serves_variables_count_where_ours_are_not_set() -> None:
    theirs = {
        "RAY_SERVE_DEFAULT_HTTP_HOST": "0.0.0.0",
        "RAY_SERVE_RUN_SYNC_IN_THREADPOOL": "0",
        "RAY_SERVE_FORCE_LOCAL_TESTING_MODE": "1",
    }
    settings = Settings.from_env(theirs)
    assert (settings.http_host, settings.run_sync_in_threadpool) == ("0.0.0.0", False)
    assert settings.local_testing_mode
    assert Settings.from_env({**theirs, "EAGLERAY_HTTP_HOST": "::1"}).http_host == "::1"


def test_all_errors_come_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.from_env({"EAGLERAY_HTTP_PORT": "http", "EAGLERAY_RUN_SYNC_IN_THREADPOOL": "maybe"})
    assert "EAGLERAY_HTTP_PORT='http': write a whole number" in str(refused.value)
    assert "EAGLERAY_RUN_SYNC_IN_THREADPOOL='maybe': write 1 or 0" in str(refused.value)
