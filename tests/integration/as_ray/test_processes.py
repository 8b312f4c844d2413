"""Every process that imports the code knows us by Ray's names: on an instance of its own and on one of others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.cli.command import command, get
from tests.integration.cli.detached import shell
from tests.integration.conftest import home as home
from tests.ports import free_port
from tests.waiting import wait_until

APP = """
import os
import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig

FAST = dict(min_replicas=1, max_replicas=3, look_back_period_s=0.5, upscale_delay_s=0, downscale_delay_s=0)

@serve.deployment(
    autoscaling_config=AutoscalingConfig(policy=AutoscalingPolicy(policy_function="scaling:three"), **FAST),
    request_router_config=RequestRouterConfig(request_router_class="routing:First"),
)
class Model:
    async def __call__(self, request):
        import ray.serve.schema
        return {"pid": os.getpid(), "id": ray.get_runtime_context().actor_id, "name": ray.serve.schema.__name__}

app = Model.bind()

def build(args):
    import ray.serve.handle
    return Model.options(autoscaling_config=None, num_replicas=1).bind()
"""
SCALING = """
import ray
from ray.serve.config import AutoscalingContext

def three(context: AutoscalingContext):
    import ray.serve
    return 3, {}
"""
ROUTING = """
from ray.serve.request_router import RequestRouter

class First(RequestRouter):
    async def choose_replicas(self, candidate_replicas, pending_request=None):
        return [[one] for one in sorted(candidate_replicas, key=lambda one: one.replica_id.unique_id)]
"""
SCRIPT = """
import os
import ray
from ray import serve

@serve.deployment
class Own:
    def __call__(self, request=None):
        from ray import serve
        return f"{serve.get_replica_context().app_name} by {os.environ['FROM']}"

ray.init(runtime_env={"env_vars": {"FROM": "the job"}})
print(serve.run(Own.bind(), name="own").remote().result())
"""


def write(home: Path) -> None:
    for name, text in {"app": APP, "scaling": SCALING, "routing": ROUTING, "script": SCRIPT}.items():
        (home / f"{name}.py").write_text(text)


def answer(url: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get(url))
    return found


def replicas(logs: Path) -> list[str]:
    return sorted(path.stem.rpartition("_")[2] for path in logs.glob("replica_default_Model_*.log"))


def test_builder_replicas_policies_and_routers(home: Path) -> None:
    write(home)
    with command(home, "--as-ray", "app:app", "--port", str(free_port()), EAGLERAY_ADMIN_PORT="0") as running:
        url = running.wait_served()
        first = answer(url)
        assert first["name"] == "eagleray.serve.schema" and first["id"].startswith("replica-")
        logs = next(Path(home, "state").glob("sessions/*/logs"))
        wait_until(lambda: len(replicas(logs)) == 3, "the three replicas that the policy wants")
        smallest = f"replica-{replicas(logs)[0]}"
        wait_until(lambda: answer(url)["id"] == smallest, "the router's first")
        assert {answer(url)["id"] for _ in range(20)} == {smallest}


def test_an_instance_of_others(home: Path) -> None:
    """One that was started without a word of Ray, by a config, a command and a script, one after the other."""
    write(home)
    with shell(home) as user:
        user("start", "--http-port", str(user.port))
        user.remember()
        url = f"http://127.0.0.1:{user.port}"
        error = user.error("run", "app:build", "--non-blocking")
        assert "No module named 'ray'" in error and "--as-ray" in error
        user("run", "app:build", "--non-blocking", "--as-ray")
        user.remember()
        assert answer(url)["name"] == "eagleray.serve.schema"

        user.environ["EAGLERAY_ATTACH"] = "1"
        script = [sys.executable, "-m", "eagleray.as_ray", "script.py"]
        done = subprocess.run(script, cwd=home, env=user.environ, capture_output=True, text=True, timeout=60)
        assert done.stdout == "own by the job\n", done.stderr
        assert get(f"{url}/own") == "own by the job", "it outlives the script"
        assert "Application 'own' is served at '/own', since 'default' has '/'" in done.stderr
        user.remember()
