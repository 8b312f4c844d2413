"""A program that imports `ray` prints the same on Ray and, unchanged, under `python -m eagleray.as_ray`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.compat.impl import ON_RAY, ROOT, free_port, needs_processes

FOLDER = ROOT / "tests" / "compat" / "as_ray"
OTHER_RAY = ROOT / ".venvs" / "compat-ray" / "bin" / "python"


@needs_processes
def test_a_program_runs_unchanged() -> None:
    port = free_port()
    launcher = [] if ON_RAY else ["-m", "eagleray.as_ray"]
    command = [sys.executable, *launcher, str(FOLDER / "program.py"), str(port)]
    # Ray's workers look for the program's other half on the path.
    environ = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(FOLDER), *filter(None, [os.getenv("PYTHONPATH")])])
    }
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    http = {"text": "ABC", "app": "words", "ids": ["str", "str"], "initialized": True}
    said = [line for line in done.stdout.splitlines() if "(raylet)" not in line]  # Ray's own remarks
    assert said == [
        "initialized False",
        "initialized True",
        "only once",
        f"http {json.dumps(http, separators=(',', ':'))}",
        "handle ['D', 'Own', True]",
        "error True True",
        "exception Application 'nothing' does not exist.",
        "status {'own': True, 'words': True}",
        f"context None __main__ ['{port}']",
        "initialized False",
    ]


HOOKED = """
import sys
from importlib.util import find_spec
from eagleray import as_ray
found = find_spec("ray").origin
with as_ray.hook():
    import ray, eagleray
    assert ray is eagleray and find_spec("ray").origin != found
assert not [name for name in sys.modules if name.split(".")[0] == "ray"]
import ray
assert ray.__file__ == found and ray is not eagleray and ray.remote is not eagleray.remote, ray
try:
    as_ray.install()
except ValueError as error:
    assert found in str(error)
else:
    raise AssertionError("a Ray that is there was taken over")
from ray import serve
assert serve.__name__ == "ray.serve"
print("untouched")
"""


def test_an_installed_ray_is_left_as_it_is(tmp_path: Path) -> None:
    """Ray itself where it is installed; elsewhere any package of that name, which is all that the hook looks at."""
    python, paths = Path(sys.executable) if ON_RAY else OTHER_RAY, [str(ROOT / "src")]
    if not python.exists():
        (tmp_path / "ray" / "serve").mkdir(parents=True)
        (tmp_path / "ray" / "__init__.py").write_text("def remote(): ...\n")
        (tmp_path / "ray" / "serve" / "__init__.py").touch()
        python, paths = Path(sys.executable), [*paths, str(tmp_path)]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([python, "-c", HOOKED], env=environ, capture_output=True, text=True, timeout=110)
    assert done.stdout.splitlines()[-1:] == ["untouched"], done.stdout + done.stderr
