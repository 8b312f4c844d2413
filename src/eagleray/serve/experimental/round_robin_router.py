"""RoundRobinRouter under its familiar path; it is defined in `routing.built_in_routers`."""

from eagleray.routing.built_in_routers import RoundRobinRouter

__all__ = ["RoundRobinRouter"]
