"""Which classes and functions a deployment's options name by import path: routers and autoscaling policies.

They run elsewhere and later than the deployment's code, so a build looks for them, to tell of a wrong path in time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eagleray.spec.autoscaling import built_in_policy
from eagleray.spec.router import BY_VALUE, built_in_router

ROUTER, POLICY = "router", "policy"
"""What an import path is to lead to."""

_CODE = ("working_dir", "py_modules", "pip", "uv")
"""Keys of an environment that bring code: only its own processes can tell what is there."""


def imports_of(options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(kind, `module:name`) of what a deployment's options, as JSON or as objects, name and a build can look for."""
    found = []
    router = _path(_get(options.get("request_router_config"), "request_router_class"))
    if router and not built_in_router(router):
        found.append((ROUTER, router))
    policy = _path(_get(_get(options.get("autoscaling_config"), "policy"), "policy_function"))
    environment = _get(options.get("ray_actor_options"), "runtime_env")
    has_own_code = any(_get(environment, key) for key in _CODE)
    if policy and not built_in_policy(policy) and not has_own_code:
        found.append((POLICY, policy))
    return found


def config_imports(config: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """(kind, import path, deployment) of what the config of an application names; "" for the application itself."""
    found = [
        (kind, path, str(one.get("name")))
        for one in config.get("deployments") or ()
        for kind, path in imports_of(one)
    ]
    policy = _path(_get(config.get("autoscaling_policy"), "policy_function"))
    if policy and not built_in_policy(policy):
        found.append((POLICY, policy, ""))
    return tuple(found)


def _path(value: Any) -> str:
    """With a colon; "" for what is no import path."""
    if not isinstance(value, str) or value.startswith(BY_VALUE):
        return ""
    if ":" not in value and "." in value:
        module, _, name = value.rpartition(".")
        return f"{module}:{name}"
    return value


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else getattr(value, key, None)
