"""The base of all declared models: frozen pydantic models whose fields carry a unit and an effect of change.

The effect says what a running deployment goes through when the field changes; `spec.change` reads it, and the
generated settings table prints it. Nothing else about a field lives outside its declaration.
"""

from __future__ import annotations

import json
from enum import IntEnum
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

MAX_AMOUNT = 10**14
"""Of any number that an option takes: a bigger one would not travel, and nothing is ever that many."""

MAX_REPLICAS = 10_000
"""Of one deployment. Each is a process: no machine holds more, and planning a billion would hold up all else."""


class Effect(IntEnum):
    """What a change of a field does to running replicas, in rising order of disturbance."""

    NONE = 0
    """Controller and routing table only: no replica notices."""
    SCALE = 1
    """Replicas come or go; those that stay do not notice."""
    RECONFIGURE = 2
    """Live replicas are told; their processes stay."""
    RESTART = 3
    """New replicas take over from the old ones."""


class SpecModel(BaseModel):
    """A frozen record that refuses unknown fields; `model_fields_set` remembers what the user wrote."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=False,
        ser_json_inf_nan="constants",
        protected_namespaces=(),
    )


def option(default: Any, effect: Effect, *, unit: str = "", **bounds: Any) -> Any:
    """A field of a deployment: pydantic's bounds plus `effect` and `unit` (printed in docs, compared on change)."""
    if "ge" in bounds or "gt" in bounds:
        bounds = {"le": MAX_AMOUNT, **bounds}
    return Field(default, json_schema_extra={"effect": effect.name.lower(), "unit": unit}, **bounds)


def effect_of(model: type[BaseModel], field: str) -> Effect:
    """The declared effect of `field`; a field without one restarts, which is never wrong, merely slow."""
    extra = model.model_fields[field].json_schema_extra
    if isinstance(extra, dict) and "effect" in extra:
        return Effect[str(extra["effect"]).upper()]
    return Effect.RESTART


def plain_json(value: Any, name: str) -> Any:
    """`value` as JSON has it; ValueError, that begins with `name`, for what cannot be said or sent so."""
    try:
        plain = json.loads(json.dumps(value))
        msgspec.msgpack.encode(plain)  # it travels so, too, which leaves out integers over 64 bits
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{name} must be JSON-serialisable: {error}") from None
    return plain
