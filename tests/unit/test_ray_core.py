"""`init` and its sisters where nothing runs: what they take, what they refuse, what they remember."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import eagleray
from eagleray import as_ray, serve
from eagleray.serve.job import inherit, job


@pytest.fixture(autouse=True)
def forgets() -> Iterator[None]:
    yield
    eagleray.shutdown()
    assert not eagleray.is_initialized()


@serve.deployment(ray_actor_options={"num_cpus": 2, "runtime_env": {"env_vars": {"A": "own"}}})
class Model:
    pass


def environment_of(deployment: serve.Deployment) -> dict[str, str]:
    environment = inherit(deployment.spec).ray_actor_options.runtime_env
    return {} if environment is None else environment.env_vars


def test_init_counts_once() -> None:
    assert not eagleray.is_initialized()
    context = eagleray.init(num_cpus=4, logging_level="ERROR", include_dashboard=False, _temp_dir="/tmp")
    assert eagleray.is_initialized()
    assert context.address_info["node_id"] == socket.gethostname()
    with pytest.raises(RuntimeError, match="called already"):
        eagleray.init()
    eagleray.init(ignore_reinit_error=True, runtime_env={"env_vars": {"LATE": "1"}})
    assert job.environment == {}


def test_init_is_a_context_manager() -> None:
    with eagleray.init():
        assert eagleray.is_initialized()
    assert not eagleray.is_initialized()


def test_init_refuses_what_it_cannot_do() -> None:
    with pytest.raises(eagleray.as_ray.NeedsRayError, match="cluster"):
        eagleray.init(address="ray://head:10001")
    with pytest.raises(TypeError, match="'num_cpu'"):
        eagleray.init(num_cpu=1)
    with pytest.raises(ValueError, match="conda"):
        eagleray.init(runtime_env={"conda": "env"})
    assert not eagleray.is_initialized()


def test_deployments_inherit_the_environment_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert inherit(Model.spec) is Model.spec
    monkeypatch.chdir(tmp_path)
    eagleray.init(runtime_env={"env_vars": {"A": "job", "B": "job"}, "working_dir": "."})
    assert environment_of(Model) == {"A": "own", "B": "job"}
    spec = inherit(Model.spec)
    assert spec.ray_actor_options.num_cpus == 2
    assert spec.ray_actor_options.runtime_env is not None
    assert spec.ray_actor_options.runtime_env.working_dir == str(tmp_path)
    plain = serve.deployment(lambda_model)
    assert (
        environment_of(plain) == {"A": "job", "B": "job"} and "ray_actor_options" in inherit(plain.spec).given
    )


def lambda_model() -> None: ...


def test_under_the_hook_deployments_say_so() -> None:
    with as_ray.hook():
        assert environment_of(Model) == {"A": "own", "EAGLERAY_AS_RAY": "1"}
    assert environment_of(Model) == {"A": "own"}


def test_resources_are_those_of_the_instance_to_come() -> None:
    eagleray.init(num_gpus=0, resources={"scanner": 2})
    assert job.resources == {"num_gpus": 0, "resources": {"scanner": 2}}


def test_get_takes_responses_only() -> None:
    for wrong in (3, [3], "text", None):
        with pytest.raises(TypeError, match="takes a response"):
            eagleray.get(wrong)


def test_the_runtime_context_outside_of_a_replica() -> None:
    context = eagleray.get_runtime_context()
    assert context.actor_id is None and context.get_actor_id() is None
    assert context.get_node_id() == context.node_id == socket.gethostname()
