"""What a deployment's code is made of, as a digest: a reload restarts only deployments whose digest has changed.

A deployment depends on its own class, on the rest of its module, and on the local modules that this module imports;
not on the other deployments beside it, which it reaches through handles only. Sources are compared as syntax trees, so
that a comment or a blank line restarts nothing. Installed packages do not count.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from eagleray.serve.deployment import Application, Deployment


def fingerprint(target: Callable[..., Any], roots: list[str]) -> str:
    """Digest of all local code that `target` may run. `roots`: the directories whose modules are the user's own."""
    digest = hashlib.sha256()
    directories = [Path(root).resolve() for root in roots]
    kept = {cls.__qualname__.partition(".")[0] for cls in getattr(target, "__mro__", ())}
    kept.add(target.__qualname__.partition(".")[0])
    module = sys.modules.get(target.__module__)
    for part in sorted(_sources(module, kept, directories, set())) if module else ():
        digest.update(part.encode())
    return digest.hexdigest()[:16]


def _sources(module: ModuleType, kept: set[str], roots: list[Path], seen: set[str]) -> Iterator[str]:
    if module.__name__ in seen:
        return
    seen.add(module.__name__)
    path = getattr(module, "__file__", None)
    if path is None or not any(Path(path).resolve().is_relative_to(root) for root in roots):
        return
    try:
        tree = ast.parse(Path(path).read_text())
    except (OSError, SyntaxError, UnicodeDecodeError):
        return
    body = [node for node in tree.body if not _is_other_deployment(node, module, kept)]
    yield f"{module.__name__}\n" + "\n".join(ast.dump(node) for node in body)
    for name in _imported(tree, module):
        imported = sys.modules.get(name)
        if imported is not None:
            yield from _sources(imported, kept, roots, seen)


def _is_other_deployment(node: ast.stmt, module: ModuleType, kept: set[str]) -> bool:
    """Whether the statement only defines another deployment, or binds deployments together."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return node.name not in kept and isinstance(getattr(module, node.name, None), Deployment)
    if isinstance(node, ast.Assign):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        return bool(names) and all(isinstance(getattr(module, name, None), Application) for name in names)
    return False


def _imported(tree: ast.Module, module: ModuleType) -> Iterator[str]:
    """Names of the modules that `module` imports, submodules named in `from package import submodule` among them."""
    package = module.__package__ or ""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".") if package else []
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield base
            for alias in node.names:
                yield f"{base}.{alias.name}"
