from __future__ import annotations

import pytest

from eagleray.base.errors import ConfigError
from eagleray.http.limits import HttpLimits


def test_options_of_others_are_passed_over() -> None:
    limits = HttpLimits.from_options({"host": "x", "keep_alive_timeout_s": 5, "max_headers": None})
    assert limits.keep_alive_timeout_s == 5
    assert (limits.max_headers, limits.max_header_bytes) == (100, 64 * 1024)


@pytest.mark.parametrize("value", ["5", -1])
def test_a_bad_value_is_named(value: object) -> None:
    with pytest.raises(ConfigError, match="keep_alive_timeout_s"):
        HttpLimits.from_options({"keep_alive_timeout_s": value})
