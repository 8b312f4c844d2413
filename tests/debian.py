"""Programs of Debian that tests need and Python packages do not bring: installed when missing and root, as in bench."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache


@cache
def promtool() -> str:
    """Path of Prometheus' own checker. Fails where it is neither there nor can be installed: no test passes unrun."""
    return _program("promtool", package="prometheus")


@cache
def redis_server() -> str:
    """Path of a real Redis; as above."""
    return _program("redis-server", package="redis-server")


def _program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
        if subprocess.run(install, env=environment, check=False, **quiet).returncode:
            subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False, **quiet)
            subprocess.run(install, env=environment, check=False, **quiet)
        found = shutil.which(name)
    assert found is not None, f"{name} is missing. On Debian: sudo apt-get install {package}"
    return found
