"""The strings that stand below the members of a class."""

from __future__ import annotations

import ast
import inspect


def member_docs(cls: type) -> dict[str, str]:
    """Member -> its string in one line; members without one are left out."""
    body = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for member, doc in zip(body.body, body.body[1:], strict=False):
        if not (isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant)):
            continue
        if isinstance(member, ast.Assign | ast.AnnAssign):
            target = member.target if isinstance(member, ast.AnnAssign) else member.targets[0]
            assert isinstance(target, ast.Name)
            found[target.id] = " ".join(str(doc.value.value).split())
    return found
