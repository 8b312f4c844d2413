"""The import hook: whose modules `ray` names, for how long, and what is said of names that only Ray has."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType

import pytest

import eagleray
from eagleray import as_ray, serve
from eagleray.as_ray import NeedsRayError
from eagleray.base import ray_names
from eagleray.base.errors import ConfigError


def ray_modules() -> list[str]:
    return [name for name in sys.modules if name == "ray" or name.startswith("ray.")]


@pytest.fixture
def hook() -> Iterator[None]:
    if find_spec("ray") is not None:
        pytest.skip("Ray is installed in this Python")
    with as_ray.hook():
        yield
    assert ray_modules() == [] and not as_ray.is_installed()


@pytest.mark.usefixtures("hook")
def test_every_way_to_import_gives_the_same_modules() -> None:
    import ray  # type: ignore[import-not-found]
    import ray.serve as one  # type: ignore[import-not-found]
    from ray import serve as two
    from ray.serve.handle import DeploymentHandle  # type: ignore[import-not-found]

    assert ray is eagleray
    assert one is two is ray.serve is serve is sys.modules["ray.serve"]
    assert DeploymentHandle is serve.handle.DeploymentHandle
    for name in ("config", "schema", "exceptions", "context", "request_router", "autoscaling_policy"):
        found = importlib.import_module(f"ray.serve.{name}")
        assert found is importlib.import_module(f"eagleray.serve.{name}")


@pytest.mark.usefixtures("hook")
def test_modules_keep_their_own_names_and_pickles_need_no_hook() -> None:
    module = importlib.import_module("ray.serve.handle")
    assert module.__name__ == "eagleray.serve.handle"
    assert module.__spec__ is not None and module.__spec__.name == "eagleray.serve.handle"
    assert b"ray.serve.handle" in pickle.dumps(module.DeploymentHandle)
    assert pickle.dumps(module.DeploymentHandle).count(b"eagleray.serve.handle") == 1


@pytest.mark.usefixtures("hook")
def test_libraries_of_ray_are_import_errors_that_name_them() -> None:
    for name in ("ray.data", "ray.train.torch", "ray.util.placement_group"):
        with pytest.raises(
            ModuleNotFoundError, match=f"'{'.'.join(name.split('.')[:2])}.* needs Ray itself"
        ) as caught:
            importlib.import_module(name)
        assert isinstance(caught.value, NeedsRayError)
    with pytest.raises(ModuleNotFoundError, match=r"no module 'ray\.serve\.nothing'"):
        importlib.import_module("ray.serve.nothing")


@pytest.mark.usefixtures("hook")
def test_libraries_may_ask_which_modules_there_are() -> None:
    names = ("ray", "ray.serve", "ray.tune", "ray.serve.nothing")
    found = {name: importlib.util.find_spec(name) for name in names}
    assert [name for name, spec in found.items() if spec is not None] == ["ray", "ray.serve"]
    with pytest.raises(NeedsRayError, match=r"'ray\.tune' needs Ray itself"):
        importlib.import_module("ray.tune")


@pytest.mark.usefixtures("hook")
def test_our_own_packages_are_not_found_under_ray() -> None:
    for name in ("ray.base", "ray.controller", "ray.wire.frames"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(name)


@pytest.mark.usefixtures("hook")
def test_names_of_ray_core_raise_when_they_are_used() -> None:
    import ray
    from ray import ObjectRef, put, remote

    def annotated(ref: ObjectRef, other: ray.ObjectRef[int]) -> None: ...

    assert not isinstance(3, ObjectRef)
    for use in (
        lambda: remote(annotated),
        lambda: remote(num_cpus=1),
        lambda: put(1),
        lambda: ray.util.metrics,
        lambda: ray.data.read_csv("x"),
        lambda: ObjectRef(b""),
        lambda: ray.get_runtime_context().gcs_address,
        lambda: ray.init("ray://head:10001"),
    ):
        with pytest.raises(NeedsRayError, match=r"'ray\.\w+.* needs Ray itself.*Ray engine"):
            use()
    with pytest.raises(NeedsRayError, match=r"Instead: put the code into a class with @serve\.deployment"):
        ray.remote(annotated)
    with pytest.raises(AttributeError, match="no attribute 'unheard_of'"):
        ray.unheard_of  # noqa: B018


def test_a_hook_within_a_hook_ends_with_the_outer_one() -> None:
    with as_ray.hook():
        with as_ray.hook():
            assert as_ray.is_installed()
        assert as_ray.is_installed()
    assert not as_ray.is_installed()
    as_ray.remove()


def test_blocks_of_two_threads_may_overlap() -> None:
    first, second = as_ray.hook(), as_ray.hook()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert as_ray.is_installed()
    second.__exit__(None, None, None)
    assert not as_ray.is_installed()


def test_what_was_installed_stays_until_it_is_removed() -> None:
    with as_ray.hook():
        as_ray.install()
    assert as_ray.is_installed()
    as_ray.remove()
    assert not as_ray.is_installed()


def test_it_is_refused_when_ray_is_there_already(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ModuleType("ray")
    real.__file__ = "/site-packages/ray/__init__.py"
    monkeypatch.setitem(sys.modules, "ray", real)
    with pytest.raises(ConfigError, match=r"imported already \(/site-packages/ray"):
        as_ray.install()
    assert not as_ray.is_installed() and sys.modules["ray"] is real


def test_what_is_missing_is_no_part_of_what_we_have() -> None:
    assert not set(ray_names.INSTEAD) & set(eagleray.__all__)
