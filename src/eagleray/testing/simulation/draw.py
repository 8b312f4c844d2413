"""What users ask for in a simulation, drawn from a generator: applications, and what a config file lays over them."""

from __future__ import annotations

import json
import random
from typing import Any

from eagleray.spec.application import ApplicationSpec

_VERSIONS = ("v1", "v1", "v2", "v2", "v3", "bad", "dead", "flaky", "deaf")


def application(name: str, rng: random.Random) -> str:
    """An ApplicationSpec as JSON: an ingress `front` and, sometimes, a `back` that it calls."""
    bound = [_deployment("front", rng)]
    if rng.random() < 0.3:
        bound.append(_deployment("back", rng))
        bound[0]["children"] = ["back"]
    bound[0]["ingress"] = True
    spec = {"name": name, "route_prefix": f"/{name}", "deployments": bound}
    return ApplicationSpec.from_json(json.dumps(spec).encode()).to_json().decode()


def _deployment(name: str, rng: random.Random) -> dict[str, Any]:
    options: dict[str, Any] = {
        "name": name,
        "max_ongoing_requests": rng.choice((2, 5, 20)),
        "graceful_shutdown_timeout_s": rng.choice((0.3, 5.0, 20.0)),
        "max_constructor_retry_count": rng.choice((1, 3, 20)),
        "user_config": rng.choice((None, None, 1, 2, "refuse")),
        "health_check_period_s": rng.choice((2.0, 10.0)),
        "health_check_timeout_s": rng.choice((1.0, 30.0)),
    }
    version = rng.choice(_VERSIONS)
    if rng.random() < 0.3:
        options["autoscaling_config"] = _scaling(rng)
    else:
        options["num_replicas"] = rng.choice((1, 1, 2, 2, 3, 4))
    if rng.random() < 0.15:
        options["ray_actor_options"] = {"num_gpus": rng.choice((0.5, 1.0))}
    if rng.random() < 0.2:
        options["max_requests_per_replica"] = rng.choice((3, 10, 40))
    if rng.random() < 0.1:
        options["max_replica_age_s"] = rng.choice((10.0, 30.0))
    if rng.random() < 0.3:
        options["rolling_update_percentage"] = rng.choice((0.01, 0.5, 1.0))
        options["max_surge_percent"] = rng.choice((0, 50, 100))
        options["auto_rollback"] = rng.choice((True, False))
    return {"spec": options, "code": {"target": f"app:{name}"}, "version": version, "children": []}


def _scaling(rng: random.Random) -> dict[str, Any]:
    low = rng.choice((0, 0, 1, 2))
    return {
        "min_replicas": low,
        "max_replicas": max(low, rng.choice((1, 2, 4))),
        "initial_replicas": rng.choice((None, None, max(low, 1))),
        "target_ongoing_requests": rng.choice((0.5, 1.0, 2.0)),
        "look_back_period_s": rng.choice((2.0, 8.0)),
        "upscale_delay_s": rng.choice((0.0, 1.0, 5.0)),
        "downscale_delay_s": rng.choice((0.0, 2.0, 10.0)),
        "downscale_to_zero_delay_s": rng.choice((None, 0.0, 3.0)),
        "upscaling_factor": rng.choice((None, 0.5, 3.0)),
        "downscaling_factor": rng.choice((None, 0.5)),
        "aggregation_function": rng.choice(("mean", "max", "min")),
    }


def config(name: str, rng: random.Random) -> dict[str, Any]:
    """An application of a config file; what its code gives travels in its `args` (`children.SimBuilder`)."""
    written: dict[str, Any] = {
        "name": name,
        "import_path": "app:build",
        "route_prefix": f"/{name}",
        "args": {"spec": application(name, random.Random(rng.randrange(6)))},
        "external_scaler_enabled": rng.random() < 0.5,
    }
    if rng.random() < 0.5:
        written["deployments"] = [{"name": "front", "num_replicas": rng.choice((1, 2, 3))}]
    return written


def brief(text: str) -> str:
    """An ApplicationSpec in one line."""
    shown = []
    for one in json.loads(text)["deployments"]:
        spec = one["spec"]
        shown.append(
            f"{spec['name']} {one['version']} x{spec.get('num_replicas')} {spec.get('user_config')!r}"
        )
        if scaling := spec.get("autoscaling_config"):
            shown.append(f"scales {scaling['min_replicas']} to {scaling['max_replicas']}")
    return ", ".join(shown)
