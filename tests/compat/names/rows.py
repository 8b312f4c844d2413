"""What a row of the tables in docs/compat.md is: names of Ray Serve's surface, how they fare here, and what shows it.

A name that begins with `serve.` is a Python name, with parameters in parentheses if they are told; one that begins with
a dot is a member of the last one that does not. `serve deploy --name` is a command. One that begins with `~` is prose.
A test is named by its file below `tests`, without `test_` and `.py`: `compat/1_5_run`, and a function of it by `::`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fate(StrEnum):
    """How a name fares."""

    WORKS = "works"
    DIFFERS = "differs"
    RAY = "needs the Ray engine"
    NOT = "not planned"


@dataclass(frozen=True)
class Row:
    """One row. `by` names tests, `key` a row of the differences on purpose, `text` says how or why."""

    names: tuple[str, ...]
    fate: Fate
    by: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Section:
    """A table."""

    title: str
    rows: tuple[Row, ...]


def works(*names: str, by: str, text: str = "") -> Row:
    """As in Ray Serve, which the tests `by` show."""
    return Row(names, Fate.WORKS, tuple(by.split()), text=text)


def differs(*names: str, how: str = "", by: str = "", key: str = "") -> Row:
    """Otherwise than in Ray Serve: as the differences named `key` say, or as `how` says and `by` shows."""
    return Row(names, Fate.DIFFERS, tuple(by.split()), tuple(key.split()), how)


def ray(*names: str, why: str, by: str = "") -> Row:
    """Only with Ray itself."""
    return Row(names, Fate.RAY, tuple(by.split()), text=why)


def no(*names: str, why: str, by: str = "") -> Row:
    """Not here, and not to come."""
    return Row(names, Fate.NOT, tuple(by.split()), text=why)


def full_names(row: Row) -> list[str]:
    """The names of a row, with those that begin with a dot written out."""
    found: list[str] = []
    owner = ""
    for name in row.names:
        if name.startswith("."):
            found.append(owner + name)
        else:
            owner = name.partition("(")[0]
            found.append(name)
    return found
