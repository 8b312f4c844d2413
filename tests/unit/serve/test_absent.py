"""Names of Ray Serve that there are not: each says why, and what to do instead."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.util import find_spec

import pytest

from eagleray import as_ray, serve
from eagleray.serve import absent
from eagleray.serve.exceptions import RayServeException
from eagleray.serve.experimental.capacity_queue_router import CapacityQueue, CapacityQueueRouter


@pytest.mark.parametrize("name", absent.MODULES)
def test_a_module_cannot_be_imported_and_says_why(name: str) -> None:
    for asked in (f"eagleray.serve.{name}", f"eagleray.serve.{name}.below"):
        with pytest.raises(ImportError, match=rf"no serve\.{name}: .* Instead: ") as caught:
            importlib.import_module(asked)
        assert isinstance(caught.value, RayServeException)
    with pytest.raises(RayServeException, match=rf"no serve\.{name}: "):
        getattr(serve, name)


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed in this Python")
@pytest.mark.parametrize("name", ["llm", "drivers", "llm.deployment"])
def test_under_rays_name_it_says_the_same(name: str) -> None:
    with (
        as_ray.hook(),
        pytest.raises(ImportError, match=rf"no serve\.{name.partition('.')[0]}: .* Instead: "),
    ):
        importlib.import_module(f"ray.serve.{name}")


@pytest.mark.parametrize(
    "name", ["accept_batch", "BackendConfig", "create_backend", "create_endpoint", "set_traffic"]
)
def test_a_function_may_be_imported_and_says_why_when_it_is_used(name: str) -> None:
    found = getattr(serve, name)
    assert name in repr(found)
    with pytest.raises(absent.AbsentError, match=rf"no serve\.{name}: .* Instead: "):
        found("argument")
    with pytest.raises(absent.AbsentError):
        _ = found.attribute
    assert not hasattr(found, "__wrapped__")


def test_a_router_that_nothing_needs() -> None:
    for one in (CapacityQueue, CapacityQueueRouter):
        with pytest.raises(absent.AbsentError, match="no router overruns a replica"):
            one()
    with pytest.raises(absent.AbsentError):
        _subclass()


def _subclass() -> None:
    class Router(CapacityQueueRouter):  # type: ignore[misc, valid-type]
        pass


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(serve, "unheard_of")


def test_old_handles_are_the_handle() -> None:
    for name in ("RayServeHandle", "RayServeSyncHandle", "RayServeDeploymentHandle"):
        with pytest.warns(DeprecationWarning, match="use DeploymentHandle"):
            assert getattr(serve.handle, name) is serve.handle.DeploymentHandle
    assert not hasattr(serve.handle, "ServeHandle")


def test_the_command_line_has_its_familiar_place() -> None:
    from eagleray.serve import scripts

    assert {"run", "deploy", "status", "config", "build", "shutdown", "start"} <= set(
        scripts.cli.list_commands(None)
    )
    command = [sys.executable, "-m", "eagleray.serve.scripts", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "Serve Python models online" in done.stdout
    assert not hasattr(scripts, "unheard_of")
