"""What the REST server asks of the controller.

The controller gives an object of this shape; this package never imports it.
"""

from __future__ import annotations

from typing import Any, Protocol


class Operations(Protocol):
    """All of them return when the wish is durable, not when it has come true.

    They raise ConfigError for what the caller must mend, NotFoundError and PreconditionError as named, and other
    EaglerayErrors for what may succeed later. A call that has begun is never cancelled by its client's leaving.
    """

    async def apply(self, config: dict[str, Any], merge: bool) -> list[str]:
        """Makes `config` (a ServeDeploySchema) what is wanted; returns warnings. `merge`: others stay."""

    async def apply_application(self, name: str, config: dict[str, Any]) -> list[str]:
        """The same for one application, whose name the config may leave out; the others stay."""

    def details(self, api_type: str | None) -> dict[str, Any]:
        """`ServeInstanceDetails`, of `declarative` or `imperative` applications only when that is asked for."""

    async def wait_routed(self) -> None:
        """Returns when every router knows what the details say now, or has been silent for too long."""

    async def scale(self, app: str, deployment: str, num_replicas: int) -> None:
        """Sets the number of replicas of a deployment whose application allows that."""

    async def delete(self, names: list[str]) -> None:
        """Begins to delete applications, whoever has deployed them; unknown names are ignored."""

    async def shutdown(self) -> None:
        """Begins to end the instance. Idempotent."""
