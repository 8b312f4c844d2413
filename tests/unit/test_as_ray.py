"""`python -m eagleray.as_ray`: a script finds what it finds under `python script.py`, but for Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import atexit
import sys
import ray, beside

def annotated(x: int): ...

print(__name__, __file__, sys.argv[1:], beside.NAME, ray.__name__, __spec__ is None)
print(sys.modules["__main__"].annotated is annotated, annotated.__annotations__)
atexit.register(lambda: print("at exit", annotated.__name__, sys.modules["__main__"].__file__))
"""


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "eagleray.as_ray", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60)


def test_a_script_of_another_directory(tmp_path: Path) -> None:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "script.py").write_text(f"{SCRIPT}\nsys.exit(3)")
    (folder / "beside.py").write_text("import ray.serve\nNAME = ray.serve.__name__")
    done = run(tmp_path, "code/script.py", "a", "--b")
    assert done.returncode == 3, done.stderr
    assert done.stdout.splitlines() == [
        "__main__ code/script.py ['a', '--b'] eagleray.serve eagleray True",
        "True {'x': <class 'int'>}",
        "at exit annotated code/script.py",
    ]


def test_a_module(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import sys, ray\nprint(__name__, sys.argv[1:], ray.__name__)")
    assert run(tmp_path, "-m", "program", "a").stdout == "__main__ ['a'] eagleray\n"


def test_an_error_of_the_script_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import ray\n\n@ray.remote\ndef f(): ...\n")
    done = run(tmp_path, "script.py")
    assert done.returncode == 1
    assert "line 3" in done.stderr and "NeedsRayError: 'ray.remote' needs Ray itself" in done.stderr


def test_wrong_usage(tmp_path: Path) -> None:
    assert run(tmp_path, "--help").stdout.startswith("Usage: python -m eagleray.as_ray")
    for arguments in ([], ["-m"], ["--unheard-of"]):
        done = run(tmp_path, *arguments)
        assert done.returncode == 2 and "Usage:" in done.stderr
    done = run(tmp_path, "nothing.py")
    assert done.returncode == 2 and "can't open 'nothing.py': No such file" in done.stderr
