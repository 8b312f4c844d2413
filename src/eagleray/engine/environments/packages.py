"""A virtual environment with packages, in which node's own packages are seen behind its own.

uv installs where there is one, else this Python's pip. No shell is involved, and requirements reach the installer in a
file, never as arguments of a command line that others can read.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from eagleray.base.errors import ConfigError
from eagleray.base.secrets import hide_text

_LAST_LINES = 12
_INDEX_VARIABLES = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_NO_INDEX",
    "PIP_CONSTRAINT",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
)
"""Variables that decide what a requirement becomes, so they belong to the hash."""

_LONG = {"-i": "--index-url", "-f": "--find-links"}
_UV_VARIABLES = {
    "--index-url": "UV_INDEX_URL",
    "--extra-index-url": "UV_EXTRA_INDEX_URL",
    "--default-index": "UV_DEFAULT_INDEX",
    "--index": "UV_INDEX",
    "--find-links": "UV_FIND_LINKS",
}
"""Options of uv that may name a URL, and its variables of the same meaning. pip has one for each option."""


@dataclass(frozen=True)
class Packages:
    """What is to be installed. `text` is a requirements file; `base` the directory that paths in it start from."""

    text: str
    base: str
    installer: str
    options: tuple[str, ...]
    check: bool

    @property
    def digest(self) -> str:
        index = {name: os.environ[name] for name in _INDEX_VARIABLES if name in os.environ}
        facts = [self.text, self.base if _has_paths(self.text) else "", self.installer != "pip"]
        facts += [self.options, self.check, sys.version, sys.prefix, _site_directories(), index]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def read_packages(recipe: dict[str, Any]) -> Packages | None:
    """None when there are none to install. ConfigError when the requirements file cannot be read."""
    pip, uv = recipe.get("pip"), recipe.get("uv")
    wanted = pip or uv
    if not wanted:
        return None
    packages = wanted["packages"]
    base = os.getcwd()
    if isinstance(packages, str):
        path = os.path.abspath(packages)
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"Requirements file '{path}' of runtime_env cannot be read: {error}.") from None
        base = os.path.dirname(path)
    else:
        text = "\n".join(packages) + "\n"
    options = tuple(wanted.get("pip_install_options" if pip else "uv_pip_install_options") or ())
    check = bool(wanted.get("pip_check" if pip else "uv_check"))
    found = shutil.which("uv")
    installer = found if found and (uv or not options) else "pip"
    if uv and options and installer == "pip":
        raise ConfigError(
            "runtime_env['uv'] has options for uv, and there is no uv: install it (pip install uv)."
        )
    return Packages(text, base, installer, options, check)


def install(packages: Packages, path: str, timeout_s: float | None) -> None:
    """Makes the environment at `path`, where it stays: its scripts name it. Prints what the installer says.

    Raises ConfigError with the installer's last lines.
    """
    print(f"Installing packages into {path} ...", flush=True)
    has_pip = importlib.util.find_spec("pip") is not None
    command = [sys.executable, "-m", "venv", *(["--without-pip"] if has_pip else []), path]
    _run(command, "The virtual environment could not be made", packages.base, timeout_s)
    python = os.path.join(path, "bin", "python")
    own = os.path.join(path, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")
    with open(os.path.join(own, "_eagleray_parent.pth"), "w", encoding="utf-8") as file:
        for directory in _site_directories():
            # Not the bare path: it would leave out the .pth files in there, such as those of editable installs.
            file.write(f"import site; site.addsitedir({directory!r})\n")
    requirements = os.path.join(path, "requirements.txt")
    with open(requirements, "w", encoding="utf-8") as file:
        file.write(packages.text)
    if packages.installer == "pip":
        command = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        check = [python, "-m", "pip", "check"]
    else:
        command = [packages.installer, "pip", "install", "--python", python]
        check = [packages.installer, "pip", "check", "--python", python]
    options, variables = unseen_options(packages.options, packages.installer == "pip")
    _run(
        [*command, *options, "-r", requirements],
        f"The packages of runtime_env could not be installed ({_brief(packages.text)})",
        packages.base,
        timeout_s,
        variables,
    )
    if packages.check:
        _run(check, "The packages of runtime_env do not fit together", packages.base, timeout_s)


def unseen_options(options: Iterable[str], is_pip: bool) -> tuple[list[str], dict[str, str]]:
    """`options` without those whose values have credentials, and these as variables, which `ps` does not show."""
    seen: list[str] = []
    variables: dict[str, str] = {}
    for word in options:
        name, is_joined, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if hide_text(word) == word:
            seen.append(word)
            continue
        if not is_joined:
            name, value = seen.pop() if seen else "", word
        name = _LONG.get(name, name)
        variable = f"PIP_{name[2:].upper().replace('-', '_')}" if is_pip else _UV_VARIABLES.get(name, "")
        if not name.startswith("--") or not variable:
            raise ConfigError(
                f"The option {name or hide_text(word)} of runtime_env has credentials, and would show them to every "
                "user of this machine: write them to a netrc file, or set the installer's variable for the instance."
            )
        variables[variable] = f"{variables[variable]} {value}" if variable in variables else value
    return seen, variables


def _run(
    command: list[str],
    failure: str,
    base: str,
    timeout_s: float | None,
    variables: Mapping[str, str] | None = None,
) -> None:
    # PYTHONPATH would let node's path hide what is to be installed.
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    process = subprocess.Popen(
        command,
        cwd=base,
        env={**environ, **(variables or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        output = process.communicate(timeout=timeout_s)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        process.kill()
        output = process.communicate()[0].decode(errors="replace")
        failure += f": not within {timeout_s:g} s (EAGLERAY_ENVIRONMENT_TIMEOUT_S, or setup_timeout_seconds)"
    output = hide_text(output)
    print(output, end="", flush=True)
    if process.returncode != 0:
        lines = [line for line in output.splitlines() if line.strip()][-_LAST_LINES:]
        raise ConfigError(
            f"{failure}:\n" + "\n".join(f"  {line}" for line in lines) + "\nCorrect the requirement, or look "
            "whether the package index can be reached."
        )


def _site_directories() -> list[str]:
    names = ("site-packages", "dist-packages")
    return [entry for entry in sys.path if os.path.basename(entry) in names]


def _has_paths(text: str) -> bool:
    return any(line.strip().startswith((".", "-r", "-c", "-e", "--")) for line in text.splitlines())


def _brief(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    return hide_text(", ".join(lines[:5]) + (", ..." if len(lines) > 5 else ""))
