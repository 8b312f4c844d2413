"""What nobody is to read: finds it in what is shown by the names of keys and the forms of URLs, and puts it back.

Values of `env_vars` are hidden whatever they are called, other values under keys that are called like a secret, and in
every text the user of a URL, its secret parameters, and what follows `Bearer`. Keys stay. Who deploys again what was
shown gets the values that are kept, since a hidden value means "as it is". Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "<hidden>"
"""Stands for a secret."""

Path = tuple[str | int, ...]

_VARIABLES = "env_vars"

_KEY = re.compile(
    r"(?:^|_)(?:pass(?:word|wd|phrase|code)?|pwd|secrets?|credentials?|token|auth|authorization|cookie|dsn"
    r"|signature|connection_string|(?:api|access|private|secret|account|shared|encryption|signing|master)_?key)"
    r"(?:_(?:value|string|b64|base64))?$"
)
_NO_SECRET = re.compile(
    r"(?:^|_)(?:eos|bos|pad|unk|sep|cls|mask|stop|start|end|special|image|video|audio|chat)_token$"
)
"""Tokens of language models."""

_PARAMETER = (
    r"(?:[\w.-]*[_.-])?(?:password|passwd|pwd|secret|token|signature|sig|credential|auth|code|api[_-]?key|access[_-]?key"
    r"|secret[_-]?key)"
)
_TEXTS = (
    (re.compile(r"://[^/@\s\"'<>]+@"), f"://{HIDDEN}@"),
    (re.compile(rf"([?&;]{_PARAMETER}=)[^&#;\s\"']+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(Bearer|Basic)\s+(?!realm\b)[\w.~+/=-]{6,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
)
_SIGNS = ("://", "=", "earer", "asic", "EARER", "ASIC")
"""Without one of them there is nothing to find in a text."""


def is_secret(key: str) -> bool:
    """Whether what is called so is a secret."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower().replace("-", "_").replace(" ", "_")
    return _KEY.search(name) is not None and _NO_SECRET.search(name) is None


def hide_text(text: str) -> str:
    """`text` without credentials in URLs, secret parameters of query strings, and values of `authorization`."""
    if any(sign in text for sign in _SIGNS):
        for pattern, shown in _TEXTS:
            text = pattern.sub(shown, text)
    return text


def hide(value: Any) -> Any:
    """A copy of JSON data in which secrets are hidden."""
    if isinstance(value, str):
        return hide_text(value)
    if isinstance(value, Mapping):
        return {key: _hide_item(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [hide(item) for item in value]
    return value


def _hide_item(key: str, item: Any) -> Any:
    if key == _VARIABLES and isinstance(item, Mapping):
        return dict.fromkeys(item, HIDDEN)
    if isinstance(item, str) and item and is_secret(key):
        return HIDDEN
    return hide(item)


def restore(shown: Any, kept: Any) -> tuple[Any, list[Path]]:
    """`shown` with the values of `kept` where they are hidden, and the places for which there is none.

    A text is restored as a whole, and only when it is what hiding the kept one gives: whoever has changed the host of a
    URL does not send the old password there.
    """
    missing: list[Path] = []
    return _restore(shown, kept, (), missing), missing


_NOTHING = object()


def _restore(shown: Any, kept: Any, path: Path, missing: list[Path]) -> Any:
    if isinstance(shown, str):
        if HIDDEN not in shown:
            return shown
        if (shown == HIDDEN and kept is not _NOTHING) or (isinstance(kept, str) and shown == hide_text(kept)):
            return kept
        missing.append(path)
        return shown
    if isinstance(shown, dict):
        known = kept if isinstance(kept, dict) else {}
        return {
            key: _restore(item, known.get(key, _NOTHING), (*path, str(key)), missing)
            for key, item in shown.items()
        }
    if isinstance(shown, list):
        members = kept if isinstance(kept, list) else []
        return [
            _restore(item, _counterpart(item, index, members), (*path, index), missing)
            for index, item in enumerate(shown)
        ]
    return shown


def _counterpart(item: Any, index: int, kept: list[Any]) -> Any:
    """The member of a kept list that `item` shows: that of its name, else its own place's, else one that looks so."""
    if isinstance(item, dict) and "name" in item:
        named = (one for one in kept if isinstance(one, dict) and one.get("name") == item["name"])
        return next(named, _NOTHING)
    if index < len(kept) and (item == HIDDEN or hide(kept[index]) == item):
        return kept[index]
    return next((one for one in kept if hide(one) == item), _NOTHING)
