"""What nobody is to read: finds it in what is shown by the names of keys and the forms of URLs, and puts it back.

Values of `env_vars` are hidden whatever they are called, other values under keys that are called like a secret, and in
every text the user of a URL, its secret parameters, and what follows `Bearer`. Keys stay. Who deploys again what was
shown gets the values that are kept, since a hidden value means "as it is". Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

HIDDEN = "<hidden>"
"""Stands for a secret."""

Path = tuple[str | int, ...]

_VARIABLES = "env_vars"

_KEY = re.compile(
    r"(?:^|_)(?:pass(?:word|wd|phrase|code)?s?|pwd|secrets?|credentials?|token|auth|authorization|cookies?|dsn"
    r"|signature|connection_string|(?:api|access|private|secret|account|shared|encryption|signing|master)_?keys?"
    r"|(?<![a-z_])tokens|(?:api|access|auth|bearer|refresh)_tokens)"
    r"(?:_(?:value|string|b64|base64))?$"
)
_NO_SECRET = re.compile(
    r"(?:^|_)(?:eos|bos|pad|unk|sep|cls|mask|stop|start|end|special|image|video|audio|chat)_token$"
)
_PASSWORD = re.compile(r"(?:^|_)(?:pass(?:word|wd|phrase|code)?|pwd)$")
"""YAML makes numbers of some of them."""
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
    name = _words(key)
    return _KEY.search(name) is not None and _NO_SECRET.search(name) is None


def _words(key: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower().replace("-", "_").replace(" ", "_")


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
    return _cover_of(key, item)(item)


Cover = Callable[[Any], Any]


def _cover_of(key: str, item: Any, around: Cover = hide) -> Cover:
    """What hides `item`, which stands under `key` in something that `around` hides."""
    if around is not hide:
        return around
    if key == _VARIABLES and isinstance(item, Mapping):
        return _cover_all
    if is_secret(key):
        return _cover_password if _PASSWORD.search(_words(key)) else _cover_texts
    return hide


def _cover_all(value: Any) -> Any:
    return dict.fromkeys(value, HIDDEN) if isinstance(value, Mapping) else HIDDEN


def _cover_texts(value: Any, numbers: bool = False) -> Any:
    """All texts are hidden, also those further in."""
    if isinstance(value, str):
        return HIDDEN if value else value
    if isinstance(value, Mapping):
        return {key: _cover_texts(item, numbers) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cover_texts(item, numbers) for item in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return HIDDEN if numbers and is_number else value


def _cover_password(value: Any) -> Any:
    return _cover_texts(value, numbers=True)


def restore(shown: Any, kept: Any) -> tuple[Any, list[Path]]:
    """`shown` with the values of `kept` where they are hidden, and the places for which there is none.

    A text is restored as a whole, and only when it is what hiding the kept one gives: whoever has changed the host of a
    URL does not send the old password there.
    """
    missing: list[Path] = []
    return _restore(shown, kept, (), missing), missing


_NOTHING = object()


def _restore(shown: Any, kept: Any, path: Path, missing: list[Path], cover: Cover = hide) -> Any:
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
            key: _restore(
                item, known.get(key, _NOTHING), (*path, str(key)), missing, _cover_of(str(key), item, cover)
            )
            for key, item in shown.items()
        }
    if isinstance(shown, list):
        members = kept if isinstance(kept, list) else []
        return [
            _restore(item, _counterpart(shown, index, members, cover), (*path, index), missing, cover)
            for index, item in enumerate(shown)
        ]
    return shown


def _counterpart(shown: list[Any], index: int, kept: list[Any], cover: Cover) -> Any:
    """The member of a kept list that a shown one stands for: that of its name, or else one that is shown so.

    Of several that cannot be told apart each stands for the one in its turn, as long as none is missing: nobody can say
    whose secret went then.
    """
    item = shown[index]
    name = item.get("name") if isinstance(item, dict) else None
    if name is not None:
        alike = [at for at, one in enumerate(shown) if isinstance(one, dict) and one.get("name") == name]
        known = [one for one in kept if isinstance(one, dict) and one.get("name") == name]
    else:
        alike = [at for at, one in enumerate(shown) if one == item]
        known = [one for one in kept if cover(one) == item]
    turn = alike.index(index)
    if len(alike) < len(known) and any(one != known[0] for one in known):
        return _NOTHING
    return known[turn] if turn < len(known) else _NOTHING
