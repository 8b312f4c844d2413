"""Surface 1.3: the `Deployment` object."""

from __future__ import annotations

import pytest
from tests.compat.impl import differs, serve


@serve.deployment(num_replicas=2, user_config={"a": 1}, max_ongoing_requests=7, max_queued_requests=9)
class Model:
    def __init__(self, value: int = 0) -> None:
        self.value = value


def test_it_cannot_be_called() -> None:
    with pytest.raises(RuntimeError):
        Model()


def test_it_cannot_be_constructed() -> None:
    with pytest.raises((RuntimeError, TypeError)):
        serve.Deployment()


def test_properties() -> None:
    assert Model.name == "Model"
    assert Model.num_replicas == 2
    assert Model.user_config == {"a": 1}
    assert Model.max_ongoing_requests == 7
    assert Model.max_queued_requests == 9
    assert Model.func_or_class.__name__ == "Model"


@pytest.mark.parametrize(
    "name", ["name", "num_replicas", "user_config", "max_ongoing_requests", "func_or_class"]
)
def test_properties_are_read_only(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Model, name, 1)


def test_options_returns_a_changed_copy() -> None:
    other = Model.options(name="Other", num_replicas=5)
    assert (other.name, other.num_replicas) == ("Other", 5)
    assert other.user_config == {"a": 1}
    assert (Model.name, Model.num_replicas) == ("Model", 2)


def test_options_takes_another_class() -> None:
    class Second:
        pass

    assert Model.options(func_or_class=Second).func_or_class is Second


@pytest.mark.parametrize("option", ["route_prefix", "unheard_of"])
def test_unknown_options_are_type_errors(option: str) -> None:
    with pytest.raises(TypeError):
        Model.options(**{option: 1})


def test_options_validates() -> None:
    with pytest.raises(ValueError):
        Model.options(num_replicas=0)
    with pytest.raises(ValueError):
        Model.options(version="v2")
    with pytest.raises(ValueError):
        Model.options(max_ongoing_requests=None)


@differs("options-rolling-update-percentage")
def test_options_takes_rolling_update_percentage() -> None:
    Model.options(rolling_update_percentage=0.5)


def test_text_and_equality() -> None:
    assert repr(Model) == "Deployment(name=Model)"
    assert Model.options() == Model
    assert Model.options(name="Other") != Model


@differs("equality-with-others")
def test_it_can_be_compared_with_anything() -> None:
    assert Model != 1


@pytest.mark.parametrize("name", ["url", "route_prefix", "prev_version"])
def test_what_ray_serve_removed_is_absent(name: str) -> None:
    assert not hasattr(Model, name)


def test_bind_makes_an_application() -> None:
    assert isinstance(Model.bind(1), serve.Application)
    assert isinstance(Model.bind(value=1), serve.Application)
