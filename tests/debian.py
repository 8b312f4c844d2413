"""Programs of Debian that tests need and Python packages do not bring: installed when missing and root, as in bench."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache


@cache
def promtool() -> str:
    """Path of Prometheus' own checker. Fails where it is neither there nor can be installed: no test passes unrun."""
    found = shutil.which("promtool")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "prometheus"]
        if subprocess.run(install, env=environment, check=False, **quiet).returncode:
            subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False, **quiet)
            subprocess.run(install, env=environment, check=False, **quiet)
        found = shutil.which("promtool")
    assert found is not None, "promtool is missing. On Debian: sudo apt-get install prometheus"
    return found
