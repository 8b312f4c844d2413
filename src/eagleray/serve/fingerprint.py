"""What a deployment's code is made of, as a digest: a reload restarts only deployments whose digest has changed.

A deployment depends on its own class, on what its module does when it is imported, on the functions and classes there
whose names it knows, and on the local modules that its module imports; not on the other deployments beside it, which it
reaches through handles only. Sources are compared as syntax trees, so that a comment or a blank line restarts nothing.
Installed packages do not count.
"""

from __future__ import annotations

import ast
import hashlib
import re
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
    parts = [*_own_source(module, kept, directories)] if module else []
    for part in sorted(parts):
        digest.update(part.encode())
    return digest.hexdigest()[:16]


def _own_source(module: ModuleType, kept: set[str], roots: list[Path]) -> Iterator[str]:
    """The target's module without the definitions that it has no name for, and all that it imports."""
    tree = _parse(module, roots)
    if tree is None:
        return
    seen: set[str] = set()
    others = list(_imported_sources(tree, module, kept, roots, seen))
    if module.__name__ in seen:  # some other module may use what is here
        yield from others
        return
    body = [node for node in tree.body if not _is_other_deployment(node, module, kept)]
    yield _text(module, _without_unknown(body, kept))
    yield from others


def _sources(module: ModuleType, kept: set[str], roots: list[Path], seen: set[str]) -> Iterator[str]:
    if module.__name__ in seen:
        return
    tree = _parse(module, roots)
    if tree is None:
        return
    seen.add(module.__name__)
    yield _text(module, [node for node in tree.body if not _is_other_deployment(node, module, kept)])
    yield from _imported_sources(tree, module, kept, roots, seen)


def _imported_sources(
    tree: ast.Module, module: ModuleType, kept: set[str], roots: list[Path], seen: set[str]
) -> Iterator[str]:
    for name in _imported(tree, module):
        imported = sys.modules.get(name)
        if imported is not None:
            yield from _sources(imported, kept, roots, seen)


def _parse(module: ModuleType, roots: list[Path]) -> ast.Module | None:
    """None for what is not the user's own, or cannot be read."""
    path = getattr(module, "__file__", None)
    if path is None or not any(Path(path).resolve().is_relative_to(root) for root in roots):
        return None
    try:
        return ast.parse(Path(path).read_text())
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None


def _text(module: ModuleType, body: list[ast.stmt]) -> str:
    return f"{module.__name__}\n" + "\n".join(ast.dump(node) for node in body)


def _without_unknown(body: list[ast.stmt], kept: set[str]) -> list[ast.stmt]:
    """Leaves out plain functions and classes that nothing else here mentions, such as application builders.

    Decorated ones stay: a decorator may register them anywhere.
    """
    plain = {
        id(node): node.name
        for node in body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.decorator_list
        and not getattr(node, "bases", ())
        and not getattr(node, "keywords", ())
        and node.name not in kept
    }
    known: set[str] = set()
    waiting = [node for node in body if id(node) not in plain]
    while waiting:
        for node in waiting:
            known |= set(_mentioned(node))
        waiting = [node for node in body if plain.get(id(node)) in known]
        for node in waiting:
            del plain[id(node)]
    return [node for node in body if id(node) not in plain]


def _mentioned(node: ast.AST) -> Iterator[str]:
    """Names, attributes, and words in strings, which may be annotations or arguments of getattr."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.Attribute):
            yield part.attr
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield from re.findall(r"\w+", part.value)


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
