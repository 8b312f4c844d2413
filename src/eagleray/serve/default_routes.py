"""Where applications are served that do not say where, in programs that were written for Ray.

Ray Serve's first versions served everything at `/<name>`, and articles go on to run several applications without a word
of routes. Today only one can have `/`. Under `as_ray` the next ones get their name as prefix, with a warning; programs
that mean Eagleray by its own name get today's error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from eagleray.base import ray_names
from eagleray.base.deprecation import warn_deprecated
from eagleray.serve.instance import blocking
from eagleray.serve.runtime import Runtime
from eagleray.serve.targets import DEFAULT_PREFIX, RunTarget

_ROOT: Final = "/"


def settle(targets: Sequence[RunTarget], runtime: Runtime | None) -> Sequence[RunTarget]:
    """The targets with prefixes that are free; `runtime` is that of the instance, if there is one already."""
    if not ray_names.is_installed() or all(one.route_prefix is not DEFAULT_PREFIX for one in targets):
        return targets
    taken: dict[str, str] = {}
    if runtime is not None:
        with blocking(runtime) as waiting:
            table = waiting.run(waiting.first_table()).result()
        taken = {route.prefix: route.app for route in table.routes}
    settled = []
    for one in targets:
        if one.route_prefix is DEFAULT_PREFIX and taken.setdefault(_ROOT, one.name) != one.name:
            warn_deprecated(
                f"Application '{one.name}' is served at '/{one.name}', since '{taken[_ROOT]}' has '/': write "
                f"serve.run(..., name='{one.name}', route_prefix='/{one.name}')."
            )
            one = replace(one, route_prefix=f"/{one.name}")
        settled.append(one)
    return settled
