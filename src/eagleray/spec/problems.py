"""Mistakes in a config file as a person wants them told: the place, what must be there, what is, what was meant.

Turns pydantic's reports into lines whose paths exist in the file, and finds keys that nobody knows. Knows nothing of
what the keys mean.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from eagleray.base.secrets import hide_text, is_secret

Path = tuple[str | int, ...]
"""Keys and indices from the top of the file."""

MAX_TOLD = 100
"""Mistakes of a file that are told one by one: nobody reads more, and looking for what was meant takes time."""

_MAX_SHOWN = 60
"""Characters of a wrong value that a message repeats."""

_ANY = "*"


@dataclass(frozen=True)
class Problem:
    """One mistake; `is_error` is False for what is merely warned about."""

    path: Path
    text: str
    is_error: bool = True


def show(path: Path) -> str:
    """`applications[0].deployments[1].num_replicas`; a key that is no plain name stands quoted in brackets."""
    text = ""
    for step in path:
        if isinstance(step, str) and step.isidentifier():
            text += f".{step}" if text else step
        else:
            text += f"[{step!r}]"
    return text


def tell(lines: Iterable[str]) -> list[str]:
    """The first lines, each once, and how many more there are."""
    found = list(dict.fromkeys(lines))
    rest = len(found) - MAX_TOLD
    return [*found[:MAX_TOLD], f"... and {rest} more"] if rest > 0 else found


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like `name`; "" when none is."""
    close = difflib.get_close_matches(name, list(known), 1, cutoff=0.7)
    return close[0] if close else ""


def list_unknown_keys(data: Any, known: Mapping[Path, list[str]], strict: frozenset[Path]) -> list[Problem]:
    """Every key that its place does not know. In `known` and `strict`, `*` stands for any index of a list."""
    problems: list[Problem] = []
    for path, pattern, mapping in _mappings(data, (), ()):
        names = known.get(pattern)
        if names is None:
            continue
        for key in mapping:
            if key in names:
                continue
            others = [name for name in names if name not in mapping]
            meant = nearest(str(key), others) if len(problems) < MAX_TOLD else ""
            hint = f"did you mean '{meant}'?" if meant else f"known are {', '.join(sorted(names))}"
            is_error = pattern in strict
            effect = "" if is_error else " and is ignored"
            problems.append(Problem((*path, str(key)), f"this key is unknown{effect}; {hint}", is_error))
    return problems


def without(data: Any, paths: Iterable[Path]) -> Any:
    """A copy of `data` that lacks the keys at `paths`."""
    dropped = set(paths)

    def copy(value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            return {
                key: copy(item, (*path, str(key)))
                for key, item in value.items()
                if (*path, str(key)) not in dropped
            }
        if isinstance(value, list):
            return [copy(item, (*path, index)) for index, item in enumerate(value)]
        return value

    return copy(data, ())


def read_problems(error: ValidationError, data: Any, unknown: Iterable[Problem]) -> list[Problem]:
    """Pydantic's reports with paths that exist in `data`; a missing key may have been misspelt as an `unknown` one."""
    problems: list[Problem] = []
    keys: dict[Path, list[str]] = {}
    for other in unknown:
        keys.setdefault(other.path[:-1], []).append(str(other.path[-1]))
    for one in error.errors(include_url=False, include_context=False):
        path = _existing(one["loc"], data)
        if one["type"] == "missing":
            name = str(one["loc"][-1])
            meant = nearest(name, keys.get(path, ())) if len(problems) < MAX_TOLD else ""
            hint = f"; is '{meant}' meant to be it?" if meant else ""
            problems.append(Problem((*path, name), f"is required{hint}"))
            continue
        text = one["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        is_told = isinstance(one["input"], dict) or "got" in text or _is_secret(path)
        given = "" if is_told else f", got {_brief(one['input'])}"
        problems.append(Problem(path, hide_text(f"{text.rstrip('.')}{given}")))
    if not problems:
        return problems
    # A report on the whole file repeats what the reports on its parts say.
    return [one for one in problems if one.path] or problems


def _is_secret(path: Path) -> bool:
    """Whether no message may repeat the value."""
    return "env_vars" in path or any(is_secret(str(step)) for step in path)


def _existing(loc: Iterable[str | int], data: Any) -> Path:
    """As much of `loc` as leads somewhere; the rest are names of pydantic's own (members of unions, validators)."""
    path: list[str | int] = []
    value: Any = data
    for step in loc:
        is_index = isinstance(value, list) and isinstance(step, int) and step < len(value)
        if is_index or (isinstance(value, dict) and step in value):
            value = value[step]
            path.append(step)
    return tuple(path)


def _mappings(data: Any, path: Path, pattern: Path) -> Iterator[tuple[Path, Path, dict[Any, Any]]]:
    if isinstance(data, dict):
        yield path, pattern, data
        for key, value in data.items():
            yield from _mappings(value, (*path, str(key)), (*pattern, str(key)))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _mappings(value, (*path, index), (*pattern, _ANY))


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
