"""Whether the classes and functions that options name by import path are there: asked when an application is built.

Routers and policies run elsewhere and later, where a path that leads nowhere could only be logged. So whoever builds an
application imports them once, with the user's other code. It must not run them, nor construct anything.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from typing import Any

from eagleray.base.errors import ConfigError
from eagleray.spec.autoscaling import AutoscalingConfig
from eagleray.spec.imports import POLICY, ROUTER

_OPTIONS = {
    ROUTER: "request_router_config.request_router_class",
    POLICY: "autoscaling_config.policy.policy_function",
}


def check_import(kind: str, path: str, deployment: str) -> None:
    """Imports what `path` (`module:name`) leads to, and sees that it is a `kind`; without `deployment` it is the policy
    of the whole application.

    ConfigError says which option, which path and why; KeyboardInterrupt of the user's comes through.
    """
    place = (
        f"Deployment '{deployment}': {_OPTIONS[kind]}" if deployment else "autoscaling_policy.policy_function"
    )
    module_name, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # user code runs in here, and raises what it likes
        raise ConfigError(f"{place} '{path}' cannot be imported: {_cause(error, module_name)}") from None
    if kind == ROUTER:
        from eagleray.routing.request_router import RequestRouter  # few have one of their own

        if not (inspect.isclass(found) and issubclass(found, RequestRouter)):
            raise ConfigError(
                f"{place} '{path}' is {_describe(found)}: it must be a subclass of "
                f"serve.request_router.RequestRouter."
            )
    elif not (callable(found) or isinstance(found, AutoscalingConfig)):
        raise ConfigError(
            f"{place} '{path}' is {_describe(found)}: it must be a function, or a class whose objects can be called."
        )


def _describe(found: Any) -> str:
    return f"the class {found.__name__}" if inspect.isclass(found) else f"of type {type(found).__name__}"


def _cause(error: BaseException, module_name: str) -> str:
    """One line for a path that leads nowhere; the user's part of the traceback for a module that fails."""
    name = getattr(error, "name", None)
    is_absent = isinstance(error, ModuleNotFoundError) and name and f"{module_name}.".startswith(f"{name}.")
    if is_absent or (isinstance(error, AttributeError) and error.obj is sys.modules.get(module_name)):
        return f"{type(error).__name__}: {error}. Correct the path, or add its folder with --app-dir or working_dir."
    ours = ("<frozen", __file__, str(importlib.__file__))
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(ours):
        frame = frame.tb_next
    text = "".join(traceback.format_exception(type(error), error, frame)).rstrip()
    return f"its module fails:\n{text.encode(errors='backslashreplace').decode()}"
