"""The other half: a script with a deployment of its own, which deploys everything and says what it got."""

import sys
import urllib.request
from typing import Any

import ray
import ray.serve.schema
from ray import serve
from ray.exceptions import RayTaskError
from ray.serve.config import AutoscalingConfig, HTTPOptions
from ray.serve.exceptions import RayServeException
from words import Front, Upper


@serve.deployment(
    autoscaling_config=AutoscalingConfig(min_replicas=1, max_replicas=2),
    ray_actor_options={"resources": {"scanner": 1}},
)
class Own:
    def __init__(self, upper: Any) -> None:
        self.upper = upper

    async def __call__(self, text: str) -> list[Any]:
        return [await self.upper.remote(text), serve.get_replica_context().deployment, ray.is_initialized()]


def main(port: int) -> None:
    print("initialized", ray.is_initialized())
    ray.init(
        num_cpus=16,
        resources={"scanner": 1},
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    print("initialized", ray.is_initialized())
    try:
        ray.init()
    except RuntimeError:
        print("only once")
    ray.init(ignore_reinit_error=True)
    serve.start(http_options=HTTPOptions(port=port))
    serve.run(Front.bind(Upper.bind()), name="words", route_prefix="/words")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/words?text=abc") as reply:
        print("http", reply.read().decode())
    handle = serve.run(Own.bind(Upper.bind()), name="own", route_prefix="/own")
    print("handle", handle.remote("d").result())
    try:
        handle.remote("").result()
    except RayTaskError as error:
        print("error", isinstance(error, ValueError), "no text" in str(error))
    try:
        serve.get_app_handle("nothing")
    except RayServeException as error:
        print("exception", error)
    running = ray.serve.schema.ApplicationStatus.RUNNING
    print(
        "status", {name: one.status == running for name, one in sorted(serve.status().applications.items())}
    )
    print("context", ray.get_runtime_context().get_actor_id(), __name__, sys.argv[1:])
    serve.shutdown()
    ray.shutdown()
    print("initialized", ray.is_initialized())


if __name__ == "__main__":
    main(int(sys.argv[1]))
