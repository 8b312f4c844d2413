"""Every `differs(key)` is explained in docs/compat.md, and every row there is held by a test."""

from __future__ import annotations

import re

from tests.compat.impl import ROOT


def differences() -> set[str]:
    """Names of the differences on purpose."""
    page = (ROOT / "docs" / "compat.md").read_text().partition("## What differs on purpose")[2]
    return set(re.findall(r"^\| `([a-z0-9-]+)` \|", page.partition("\n## ")[0], re.MULTILINE))


def test_the_table_and_the_tests_name_the_same_differences() -> None:
    scripts = [path.read_text() for path in (ROOT / "tests" / "compat").glob("test_[0-9]*.py")]
    marked = {key for text in scripts for key in re.findall(r'\bdiffers\("(.+?)"\)', text)}
    assert sorted(marked) == sorted(differences())
