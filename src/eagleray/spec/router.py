"""How a deployment's requests are routed to its replicas: the router's class, its options, its back-offs.

A class travels by import path where there is one; otherwise its pickle stands in the text, which nobody but the routers
reads.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from eagleray.spec.base import SpecModel, plain_json

POWER_OF_TWO_ROUTER = "eagleray.serve.request_router:PowerOfTwoChoicesRequestRouter"
BUILT_IN_ROUTERS = {
    "PowerOfTwoChoicesRequestRouter": "power_of_two",
    "RoundRobinRouter": "round_robin",
    "ConsistentHashRouter": "consistent_hash",
    "LocalityAwareRouter": "locality_aware",
}
"""Names of router classes that are policies of ours, wherever Ray Serve or we define them."""
_MAX_NODES = 10_000
"""Of a consistent hash for each replica: every router computes them all whenever replicas change."""
BY_VALUE = "by-value:"
"""Begins the text of a router class that cannot be imported; its pickle as base64 follows."""


class RequestRouterConfig(SpecModel):
    """How requests are routed to replicas. `request_router_class` is a class or its path, `module:Class`.

    `request_router_kwargs` go to its `initialize_state`. All times are in seconds.
    """

    request_router_class: Any = POWER_OF_TWO_ROUTER
    request_router_kwargs: dict[str, Any] = Field(default_factory=dict)
    request_routing_stats_period_s: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    request_routing_stats_timeout_s: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    initial_backoff_s: float = Field(default=0.025, gt=0, allow_inf_nan=False)
    backoff_multiplier: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    max_backoff_s: float = Field(default=0.5, gt=0, allow_inf_nan=False)

    @field_validator("request_router_class")
    @classmethod
    def _check_class(cls, value: Any) -> Any:
        if isinstance(value, type):
            return value
        if not isinstance(value, str) or not value:
            raise ValueError(f"request_router_class must be a class or its import path, got {value!r}")
        if value.startswith(BY_VALUE):
            return value
        if ":" not in value and "." in value:
            module, _, name = value.rpartition(".")
            value = f"{module}:{name}"
        if value.startswith("ray.") and not built_in_router(value):
            known = ", ".join(BUILT_IN_ROUTERS)
            raise ValueError(f"{value} is a router of Ray Serve that does not exist here; there are: {known}")
        return value

    @field_validator("request_router_kwargs")
    @classmethod
    def _check_kwargs(cls, value: dict[str, Any]) -> dict[str, Any]:
        plain: dict[str, Any] = plain_json(value, "request_router_kwargs")
        return plain

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        kind = built_in_router(self.request_router_class)
        names = ("num_virtual_nodes", "num_fallback_replicas") if kind == "consistent_hash" else ()
        for name, value in self.request_router_kwargs.items() if kind else ():
            if name not in names:
                raise ValueError(f"request_router_kwargs: {name!r} is unknown to this router")
            least = 1 if name == "num_virtual_nodes" else 0
            if not isinstance(value, int) or not least <= value <= _MAX_NODES:
                raise ValueError(
                    f"request_router_kwargs: {name} must be an integer from {least} to {_MAX_NODES}"
                )
        return self


def built_in_router(path: Any) -> str:
    """The policy that a router class is, given by path or itself; "" for a class of the user's."""
    if isinstance(path, type):
        path = f"{path.__module__}:{path.__qualname__}"
    module, _, name = str(path).rpartition(":")
    is_ours = not module or module.startswith(("ray.serve.", "eagleray."))
    return BUILT_IN_ROUTERS.get(name, "") if is_ours else ""
