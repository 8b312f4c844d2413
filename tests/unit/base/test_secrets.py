from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eagleray.base.secrets import HIDDEN, hide, hide_text, is_secret, restore


@pytest.mark.parametrize(
    "key",
    [
        "password", "DB_PASSWORD", "passwd", "api_key", "apiKey", "OPENAI_API_KEY", "hfToken", "token", "client-secret",
        "secrets", "AWS_SECRET_ACCESS_KEY", "private_key", "Authorization", "cookie", "credentials", "redis_dsn",
        "ssl_keyfile_password", "aws_session_token", "account_key", "api_keys", "tokens", "accessTokens", "passwords",
        "cookies",
    ],
)  # fmt: skip
def test_names_of_secrets(key: str) -> None:
    assert is_secret(key)


@pytest.mark.parametrize(
    "key",
    ["tokenizer", "max_tokens", "stop_tokens", "eos_token", "pad_token", "keys", "key", "passes", "compass", "author",
     "monkey", "ssl_keyfile", "secretary", "authority", "token_count"],
)  # fmt: skip
def test_names_of_other_things(key: str) -> None:
    assert not is_secret(key)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:pw@host:6379/0", "redis://<hidden>@host:6379/0"),
        ("--index-url https://me:pw@index/simple x", "--index-url https://<hidden>@index/simple x"),
        ("https://s3/x?X-Amz-Signature=abc&y=1", "https://s3/x?X-Amz-Signature=<hidden>&y=1"),
        ("https://h/?a=1&api_key=abc#f", "https://h/?a=1&api_key=<hidden>#f"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer <hidden>"),
        ("https://host/path@2?q=a@b", "https://host/path@2?q=a@b"),
        ("the bearer of news, a=b, Basic training", "the bearer of news, a=b, Basic <hidden>"),
        ("nothing to see", "nothing to see"),
    ],
)
def test_secrets_in_texts(text: str, shown: str) -> None:
    assert hide_text(text) == shown and hide_text(shown) == shown


CONFIG: dict[str, Any] = {
    "name": "app",
    "import_path": "m:app",
    "args": {
        "api_key": "sk-1",
        "model": "small",
        "nested": [{"password": "p"}],
        "max_tokens": 5,
        "token": "",
    },
    "runtime_env": {
        "env_vars": {"A": "one", "LEVEL": "info"},
        "pip": ["--index-url https://me:pw@index/simple", "six", "--find-links https://me:pw2@index/l"],
    },
    "deployments": [
        {"name": "D", "ray_actor_options": {"runtime_env": {"env_vars": {"B": "two"}}}},
        {"name": "E", "user_config": {"secrets": "x"}},
    ],
}


def test_what_is_shown_has_all_keys_and_no_secret() -> None:
    shown = hide(CONFIG)
    assert shown["runtime_env"]["env_vars"] == {"A": HIDDEN, "LEVEL": HIDDEN}
    assert shown["args"] == {
        "api_key": HIDDEN,
        "model": "small",
        "nested": [{"password": HIDDEN}],
        "max_tokens": 5,
        "token": "",
    }
    for secret in ("sk-1", "one", "two", "pw", "'x'"):
        assert secret not in str(shown)


def test_what_was_shown_and_is_deployed_again_is_what_it_was() -> None:
    before = copy.deepcopy(CONFIG)
    assert restore(hide(CONFIG), CONFIG) == (before, [])
    turned = hide(CONFIG)
    turned["deployments"].reverse()
    turned["runtime_env"]["pip"].reverse()
    restored, missing = restore(turned, CONFIG)
    assert not missing and restored["deployments"] == CONFIG["deployments"][::-1]
    assert restored["runtime_env"]["pip"] == CONFIG["runtime_env"]["pip"][::-1]


def test_new_values_count_and_what_is_not_kept_is_told() -> None:
    shown = hide(CONFIG)
    shown["runtime_env"]["env_vars"] |= {"A": "new", "C": HIDDEN}
    shown["runtime_env"]["pip"][0] = f"--index-url https://{HIDDEN}@elsewhere/simple"
    shown["deployments"][0]["name"] = "F"
    restored, missing = restore(shown, CONFIG)
    assert restored["runtime_env"]["env_vars"]["A"] == "new"
    assert missing == [
        ("runtime_env", "env_vars", "C"),
        ("runtime_env", "pip", 0),
        ("deployments", 0, "ray_actor_options", "runtime_env", "env_vars", "B"),
    ]
    assert restore(hide(CONFIG), {})[1]


def test_whatever_is_under_the_name_of_a_secret_is_hidden() -> None:
    value = {
        "api_keys": ["k1", "k2"],
        "credentials": {"user": "u", "days": 3},
        "password": 1234,
        "tokens": [5],
    }
    shown = hide(value)
    assert shown == {
        "api_keys": [HIDDEN, HIDDEN],
        "credentials": {"user": HIDDEN, "days": 3},
        "password": HIDDEN,
        "tokens": [5],
    }
    assert restore(shown, value) == (value, [])


@pytest.mark.parametrize(
    "kept",
    [
        [{"name": "m", "password": "a"}, {"name": "m", "password": "b"}],
        [{"password": "a"}, {"password": "b"}],
        ["redis://:a@h", "redis://:b@h"],
    ],
)
def test_secrets_that_look_alike_are_not_mixed_up(kept: list[Any]) -> None:
    shown = hide(kept)
    assert restore(shown, kept) == (kept, [])
    assert restore([*shown, "more"], kept) == ([*kept, "more"], [])
    assert restore(shown[1:], kept)[1], "nobody can say which one has gone"
    assert restore(shown[1:], [kept[0], kept[0]]) == ([kept[0]], []), "which makes no difference here"
    assert restore([*shown, shown[0]], kept)[1] != []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "token", "env_vars", "password", "url"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(json_values)
def test_hiding_and_restoring_is_nothing(value: Any) -> None:
    shown = hide(value)
    assert hide(shown) == shown
    restored, missing = restore(shown, value)
    assert restored == value and not missing
