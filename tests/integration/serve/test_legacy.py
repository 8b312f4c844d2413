"""`serve.get_deployment(name)` and `ray.get`, as programs of earlier versions use them."""

from __future__ import annotations

import os
from typing import Any

import pytest

import eagleray
from eagleray import serve
from eagleray.base.ids import DeploymentID
from eagleray.serve import legacy

pytestmark = [pytest.mark.usefixtures("instance"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@serve.deployment(name="model", max_ongoing_requests=1)
class Model:
    def __init__(self) -> None:
        self.config: Any = None

    def reconfigure(self, config: Any) -> None:
        self.config = config

    def __call__(self, *_: Any) -> tuple[int, Any]:
        return os.getpid(), self.config


@serve.deployment
class Pipeline:
    def __init__(self) -> None:
        # The application first, though a deployment of another one has the name, too.
        self.model = serve.get_deployment("service").get_handle()

    async def __call__(self) -> Any:
        return await self.model.remote("x")


@serve.deployment(name="service")
def impostor() -> str:
    return "impostor"


@pytest.fixture(scope="module", autouse=True)
def deployed(instance: None) -> None:
    serve.run(impostor.bind(), name="other", route_prefix="/other")
    serve.run(Model.bind(), name="service", route_prefix="/service")
    serve.run(Pipeline.bind(), name="pipeline", route_prefix="/pipeline")


def pids(app: str) -> set[int]:
    """Of all replicas that run."""
    found = serve.get_app_handle(app).broadcast("__call__").results(timeout_s=30)
    return {pid for pid, _ in found}


def test_a_handle_by_the_name_of_an_application_or_a_deployment() -> None:
    with pytest.warns(DeprecationWarning, match=r"use serve\.get_app_handle"):
        service = serve.get_deployment("service")
    assert (service.name, service.app_name) == ("model", "service")
    handle = service.get_handle(sync=True)
    assert handle.remote(1).result() == serve.get_deployment("model").get_handle().remote(2).result()
    with pytest.raises(KeyError, match="no application and no deployment 'nothing'"):
        serve.get_deployment("nothing")


def test_inside_a_replica() -> None:
    pid, _ = serve.get_app_handle("pipeline").remote().result()
    assert pid in pids("service")


def test_a_name_of_several_applications_is_not_guessed() -> None:
    serve.run(Model.bind(), name="second", route_prefix="/second")
    with pytest.raises(serve.exceptions.RayServeException, match=r"'model' \(second, service\)"):
        serve.get_deployment("model")
    assert serve.get_deployment("second").app_name == "second"
    serve.get_deployment("second").delete()
    assert "second" not in serve.status().applications


def test_a_deployment_deploys_itself_at_a_route_of_its_name() -> None:
    single = Model.options(name="single")
    with pytest.warns(DeprecationWarning, match=r"use serve\.run\(deployment\.bind") as caught:
        single.deploy()
    assert caught[0].filename == __file__
    assert single.get_handle(sync=True).remote().result()[1] is None
    application = serve.status().applications["single"]
    assert application.status == "RUNNING" and "single" in application.deployments
    assert serve.list_deployments()["single"].app_name == "single"
    single.delete()
    assert "single" not in serve.status().applications


def test_all_that_run_are_listed() -> None:
    serve.run(Model.bind(), name="twin", route_prefix="/twin")
    with pytest.warns(DeprecationWarning, match=r"use serve\.status\(\)"):
        found = serve.list_deployments()
    assert {name: one.app_name for name, one in found.items()} == {
        "service": "other",
        "service_model": "service",
        "twin_model": "twin",
        "Pipeline": "pipeline",
    }
    assert found["twin_model"].get_handle().remote().result()[1] is None
    serve.delete("twin")


def test_new_options_reach_the_running_deployment_and_replicas_stay() -> None:
    before = pids("service")
    service = serve.get_deployment("service")
    service.options(num_replicas=3).deploy()
    after = pids("service")
    assert len(after) == 3 and before < after
    service.options(user_config={"threshold": 0.8}).options(max_concurrent_queries=2).deploy()
    assert pids("service") == after, "what was deployed before stays, and no replica was restarted"
    assert serve.get_app_handle("service").remote().result()[1] == {"threshold": 0.8}
    assert serve.status().applications["service"].status == "RUNNING"


def test_wrong_options_change_nothing() -> None:
    service = serve.get_deployment("service")
    before = pids("service")
    for options, text in (
        ({"num_replicas": 0}, r"num_replicas: must be greater than or equal to 1, got 0"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"user_config": object()}, "must be JSON"),
    ):
        with pytest.raises(ValueError, match=text):
            service.options(**options).deploy()
    with pytest.raises(ValueError, match="name of a deployment that runs cannot be changed"):
        service.options(name="x")
    assert pids("service") == before
    with pytest.raises(serve.exceptions.RayServeException, match="does not run"):
        legacy.DeployedDeployment(DeploymentID("a", "gone"), {"num_replicas": 1}).deploy()


def test_get_waits_for_responses() -> None:
    handle = serve.get_deployment("service").get_handle()
    with pytest.warns(DeprecationWarning, match=r"use response\.result\(\)") as caught:
        one = eagleray.get(handle.remote(1))
    assert caught[0].filename == __file__
    several = eagleray.get([handle.remote(1), handle.remote(2)], timeout=30)
    assert one[0] in pids("service") and len(several) == 2 and isinstance(several, list)


def test_get_gives_up_after_its_time() -> None:
    @serve.deployment(graceful_shutdown_timeout_s=0)
    async def never() -> None:
        import asyncio

        await asyncio.get_running_loop().create_future()

    handle = serve.run(never.bind(), name="never", route_prefix=None)
    with pytest.raises(eagleray.exceptions.GetTimeoutError):
        eagleray.get([handle.remote(), handle.remote()], timeout=0.1)
    serve.delete("never")
