"""Configs as text: what stands twice is told by its lines, what is too much is refused before it is parsed."""

from __future__ import annotations

import json

import pytest
import yaml

from eagleray.base.errors import ConfigError
from eagleray.spec import texts
from eagleray.spec.texts import MAX_VALUES, parse_documents, parse_json, parse_yaml

TWICE = """\
applications:
- name: one
  import_path: hello:app
  route_prefix: /one
  import_path: hello:other
  deployments:
  - name: A
    user_config: {"a key": 1, "a key": 2}
target_capacity: 10
applications: []
target_capacity: 20
target_capacity: 30
"""


def test_keys_that_stand_twice_are_told_by_place_and_lines() -> None:
    with pytest.raises(ConfigError) as raised:
        parse_yaml(TWICE)
    assert str(raised.value).splitlines() == [
        "applications[0].import_path: is given twice, in line 3 and in line 5; keep one",
        "applications[0].deployments[0].user_config['a key']: is given twice, in line 8 and in line 8; keep one",
        "applications: is given twice, in line 1 and in line 10; keep one",
        "target_capacity: is given twice, in line 9 and in line 11; keep one",
        "target_capacity: is given twice, in line 9 and in line 12; keep one",
    ]


def test_what_only_looks_like_twice() -> None:
    merged = "base: &b {a: 1, b: 2}\nother: {<<: *b, a: 3}\nthird: {<<: [*b, *b], '1': x, 1: y}\n"
    assert parse_yaml(merged) == yaml.safe_load(merged)
    assert parse_yaml("") is None and parse_yaml("3") == 3


def test_anchors_are_looked_at_once() -> None:
    lines = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20))]
    with pytest.raises(ConfigError, match=r"^b: is given twice, in line 21 and in line 22"):
        parse_yaml("\n".join([*lines, "b: 1", "b: 2"]))


def test_of_many_the_first_are_told() -> None:
    with pytest.raises(ConfigError) as raised:
        parse_yaml("\n".join(f"k{n}: 1\nk{n}: 2" for n in range(250)))
    lines = str(raised.value).splitlines()
    assert len(lines) == 101 and lines[-1] == "... and 150 more"


@pytest.mark.parametrize(
    "many",
    ["[" + "1," * MAX_VALUES + "1]", "[" + "[]," * MAX_VALUES + "1]", "[" * (MAX_VALUES + 1)],
    ids=["numbers", "lists", "levels"],
)
def test_more_values_than_a_config_has_are_refused_unread(many: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts.msgspec.json, "decode", None)
    with pytest.raises(ConfigError, match=f"more than {MAX_VALUES} values"):
        parse_json(many.encode())


def test_text_is_no_values() -> None:
    text = {"a": ",[{" * MAX_VALUES, 'b"\\': ["\\", '"', "\n,"], "c": {}}
    assert parse_json(json.dumps(text).encode()) == text
    assert parse_json(json.dumps([1] * (MAX_VALUES - 1)).encode()) == [1] * (MAX_VALUES - 1)


def test_keys_that_stand_twice_in_json_are_told_by_place() -> None:
    with pytest.raises(ConfigError) as raised:
        parse_json(b'{"a": {"b": [{"c": 1, "d": {"e": 1}, "c": 1}]}, "f": 1, "a": {"b": 1, "b": 2}}')
    assert str(raised.value).splitlines()[1:] == [
        "a.b: is given twice; keep one",
        "a.b[0].c: is given twice; keep one",
        "a: is given twice; keep one",
    ]


def test_several_documents() -> None:
    assert parse_documents("") == [] and parse_documents("a: 1\n---\n\nb: 2\n") == [{"a": 1}, {"b": 2}]
    with pytest.raises(ConfigError, match=r"^b: is given twice, in line 3 and in line 4"):
        parse_documents("a: 1\n---\nb: 1\nb: 2\n")


@pytest.mark.parametrize(
    "wrong", [b"", b"1" * 5000, b"{", b'"', b'"\\', b"\xff", b'["' + b"\\" * 2**20, b"[" * 5000]
)
def test_what_is_no_json(wrong: bytes) -> None:
    with pytest.raises(ConfigError, match="not valid JSON"):
        parse_json(wrong)
