"""An application ready to be deployed: its deployments, where their code is, and who holds handles of whom.

Code and bound arguments travel as blobs beside this record and are named here by digest, so that the record stays
readable JSON. A controller never unpickles a blob: it hands them to replicas.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from eagleray.spec.base import SpecModel
from eagleray.spec.deployment import DeploymentSpec
from eagleray.spec.options import LoggingConfig


class CodeRef(SpecModel):
    """Where a replica finds its callable: `target` is `module:qualified.name`, `code` the digest of a blob."""

    target: str = ""
    code: str = ""

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if bool(self.target) == bool(self.code):
            raise ValueError("exactly one of target and code must be given")
        return self


class BoundDeployment(SpecModel):
    """A deployment with its code and bound arguments. `init` is the digest of the pickled `(args, kwargs)` or ""."""

    spec: DeploymentSpec
    code: CodeRef
    init: str = ""
    ingress: bool = False
    version: str
    children: list[str] = Field(default_factory=list)
    is_function: bool = False

    @property
    def name(self) -> str:
        return self.spec.name


class ApplicationSpec(SpecModel):
    """Everything the controller must know to run an application. `route_prefix=None`: reachable by handle only."""

    name: str = Field(min_length=1)
    route_prefix: str | None = "/"
    deployments: list[BoundDeployment] = Field(min_length=1)
    sys_path: list[str] = Field(default_factory=list)
    logging_config: LoggingConfig | None = None
    source: Literal["imperative", "declarative"] = "imperative"
    external_scaler_enabled: bool = False
    """Numbers of replicas come from outside, by the REST API."""

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if "#" in value:
            raise ValueError(f"application name {value!r} may not contain '#'")
        return value

    @field_validator("route_prefix")
    @classmethod
    def _check_prefix(cls, value: str | None) -> str | None:
        return check_route_prefix(value)

    @model_validator(mode="after")
    def _check_graph(self) -> Self:
        names = [deployment.name for deployment in self.deployments]
        if len(set(names)) != len(names):
            raise ValueError(f"deployment names must be unique in an application, got {names}")
        if sum(deployment.ingress for deployment in self.deployments) != 1:
            raise ValueError("an application has exactly one ingress deployment")
        scaling = [one.name for one in self.deployments if one.spec.autoscaling_config is not None]
        if scaling and self.external_scaler_enabled:
            raise ValueError(
                f"external_scaler_enabled does not go with deployments that autoscale: {scaling}. Give them "
                f"num_replicas, or leave their number to autoscaling."
            )
        return self

    @property
    def ingress(self) -> BoundDeployment:
        """The outermost deployment, which gets the HTTP traffic."""
        return next(deployment for deployment in self.deployments if deployment.ingress)

    @property
    def blobs(self) -> frozenset[str]:
        """Digests of all blobs that this application needs."""
        named = {deployment.init for deployment in self.deployments}
        return frozenset(named | {deployment.code.code for deployment in self.deployments}) - {""}

    def to_json(self) -> bytes:
        """Compact JSON that holds only what differs from the defaults; `from_json` restores an equal record."""
        return self.model_dump_json(exclude_unset=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> ApplicationSpec:
        """Raises pydantic.ValidationError (a ValueError) with the paths of all faults."""
        return cls.model_validate_json(data)


def check_route_prefix(prefix: str | None) -> str | None:
    """Returns `prefix`, or raises ValueError saying what a prefix must look like; TypeError when it is no text."""
    if prefix is None:
        return None
    if not isinstance(prefix, str):
        raise TypeError(f"route_prefix must be a str or None, got {prefix!r}.")
    if not prefix.startswith("/"):
        raise ValueError(f"Invalid route_prefix '{prefix}': it must start with '/'.")
    if prefix != "/" and prefix.endswith("/"):
        raise ValueError(
            f"Invalid route_prefix '{prefix}': it may not end with '/' unless it is exactly '/'."
        )
    if "{" in prefix or "}" in prefix:
        raise ValueError(f"Invalid route_prefix '{prefix}': it may not contain '{{' or '}}'.")
    return prefix
