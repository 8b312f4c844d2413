"""Handles without an instance: what `options` takes."""

from __future__ import annotations

from typing import Any

import pytest

from eagleray.serve.handle import DeploymentHandle


@pytest.mark.parametrize(
    "option",
    [{"method_name": 5}, {"multiplexed_model_id": 5}, {"session_id": b"s"}, {"stream": "yes"}],
    ids=lambda option: next(iter(option)),
)
def test_an_option_of_the_wrong_type_is_refused_before_it_reaches_a_replica(option: dict[str, Any]) -> None:
    (name,) = option
    with pytest.raises(TypeError, match=f"{name} must be a (str|bool), got"):
        DeploymentHandle("D", "default").options(**option)


def test_none_leaves_an_option_as_it_was() -> None:
    handle = DeploymentHandle("D", "default").options(session_id="s").options(session_id=None, stream=None)
    assert handle._session_id == "s"
