"""What programs of articles expect around them: model files, packages with downloaded models, services on other hosts.

Model files are trained on data that scikit-learn carries. Packages and services are stood in for where they would need
a download or another machine: `stand_ins/` has modules of their names with real components of `examples/seeds` behind.
"""

from __future__ import annotations

import os
import re
import sys
from importlib.machinery import PathFinder
from pathlib import Path

ROOT = Path(__file__).parents[3]
STAND_INS = Path(__file__).with_name("stand_ins")
HOST = "host-"
"""How the names of applications begin that stand in for another host's service."""
EXAMPLES = ROOT / "examples" / "seeds"
HOSTS = {"vllm": ("d002.rag.llm:app", "/v1")}
"""Host of articles -> the application that answers there, and its prefix."""
_FILE = re.compile(r"""["']([\w-]+\.(?:pkl|joblib))["']""")
_ARGUMENTS = {"model_path": "model.pkl", "model_name": "resnet50"}


def stands_for(parameter: str) -> str | None:
    """The value of a constructor's parameter that a program leaves to us; None where we know none."""
    return _ARGUMENTS.get(parameter)


def is_there(module: str) -> bool:
    """Whether a program can import a package."""
    return (
        module == "ray"
        or module in sys.builtin_module_names
        or PathFinder.find_spec(module, [str(STAND_INS), *sys.path]) is not None
    )


def stood_in(modules: list[str], text: str) -> list[str]:
    """Those of the packages, and the hosts in the text, that have a stand-in here."""
    packages = [one for one in modules if PathFinder.find_spec(one, [str(STAND_INS)]) is not None]
    return [*packages, *(f"host {one}" for one in HOSTS if f"//{one}:" in text)]


def has_gpu() -> bool:
    """Whether NVIDIA's driver has a device here."""
    return bool(list(Path("/dev").glob("nvidia[0-9]*")))


def environment(port: int, folder: Path) -> dict[str, str]:
    """The variables of the process of a program that works in `folder` and serves at `port`."""
    paths = [str(STAND_INS), str(folder), str(EXAMPLES), str(ROOT / "src"), str(ROOT)]
    own = {
        "PYTHONPATH": os.pathsep.join(paths),
        "EAGLERAY_HTTP_PORT": str(port),
        "EAGLERAY_ATTACH": "0",
        "EAGLERAY_NUM_GPUS": "8",
        "EAGLERAY_RUNTIME_HOME": str(folder / "run"),
        "EAGLERAY_STATE_HOME": str(folder / "state"),
        "SEED_PORT": str(port),
    }
    return os.environ | own


def provide(text: str, folder: Path) -> None:
    """Puts the model files into `folder` that a program names."""
    for name in sorted(set(_FILE.findall(text))):
        _train(name, folder)


def _train(name: str, folder: Path) -> None:
    sys.path[:0] = [] if str(EXAMPLES) in sys.path else [str(EXAMPLES)]
    from d000 import train  # scikit-learn takes a second, which only who needs it should spend

    known = name if name in train.RECIPES else "simple_model.pkl"
    train.make(known, folder).rename(folder / name)
