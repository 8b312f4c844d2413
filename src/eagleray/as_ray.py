"""`python -m eagleray.as_ray script.py`: runs a Ray Serve program unchanged, with `ray` meaning Eagleray.

    python -m eagleray.as_ray script.py arguments ...
    python -m eagleray.as_ray -m module arguments ...

Builders, replicas and policies of what the program deploys import the same way (`serve.job`). `install`, `remove` and
`hook` do the same for a process that is running already. Nothing is rewritten, and nothing stays behind.
"""

from __future__ import annotations

import builtins
import os
import runpy
import sys
from types import ModuleType

from eagleray.base.ray_names import NeedsRayError, hook, install, is_installed, remove

_USAGE = "Usage: python -m eagleray.as_ray [-m MODULE | SCRIPT] [ARGUMENTS] ..."


def main() -> None:
    """Runs the program that `sys.argv` names as `python` would, in this process; its SystemExit is ours."""
    arguments = sys.argv[1:]
    is_module = arguments[:1] == ["-m"]
    program = arguments[int(is_module) :]
    if not program or program[0].startswith("-"):
        asked = program[:1] in (["-h"], ["--help"])
        print(_USAGE, file=sys.stdout if asked else sys.stderr)
        sys.exit(0 if asked else 2)
    sys.argv[:] = program
    install()
    if is_module:
        runpy.run_module(program[0], run_name="__main__", alter_sys=True)
    else:
        _run_script(program[0])


def _run_script(path: str) -> None:
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        print(f"as_ray: can't open '{path}': {error.strerror}", file=sys.stderr)
        sys.exit(2)
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    # In place for good, unlike runpy's: what runs at exit, and what is pickled then, belongs to `__main__` still.
    script = ModuleType("__main__")
    script.__file__ = path
    script.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = script
    exec(compile(source, path, "exec", dont_inherit=True), script.__dict__)


__all__ = ["NeedsRayError", "hook", "install", "is_installed", "main", "remove"]

if __name__ == "__main__":
    main()
