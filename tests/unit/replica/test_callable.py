"""What is known of a callable before its first call, and what hooks do with whatever user code raises."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
from typing import Any

import pytest

from eagleray import as_ray
from eagleray.base.errors import EaglerayError
from eagleray.replica.callable import Method, UserCode


async def coroutine(request: object) -> None: ...


async def async_items() -> Any:
    yield 1


def items() -> Any:
    yield 1


class Sync:
    def __call__(self, request: object) -> None: ...


class Async:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "is_async", "in_thread", "takes_arguments"),
    [
        (coroutine, True, False, True),
        (functools.partial(coroutine, 1), True, False, False),
        (async_items, False, False, False),
        (items, False, True, False),
        (Sync(), False, True, True),
        (Async(), True, False, False),
        (functools.partial(Async()), True, False, False),
        (lambda *args: None, False, True, True),
        (dict.fromkeys, False, True, True),
    ],
)
def test_kinds(function: Any, is_async: bool, in_thread: bool, takes_arguments: bool) -> None:
    method = Method("m", function, True)
    assert (method.is_async, method.in_thread, method.takes_arguments) == (
        is_async,
        in_thread,
        takes_arguments,
    )
    assert not Method("m", function, False).in_thread


def made(kind: Any, *args: Any, user_config: Any = None, rank: int = 0) -> tuple[UserCode, str]:
    user = UserCode("D", kind)
    return user, asyncio.run(user.start(args, {}, user_config, rank))


def test_predict_serves_a_class_without_call() -> None:
    class OnlyPredict:
        def predict(self, request: object) -> str:
            return "p"

    user, error = made(OnlyPredict)
    assert not error and user.entry is not None and user.entry.name == "predict"
    assert user.find("").function(None) == "p" and "" in user.known


def test_missing_methods_list_what_there_is() -> None:
    class Other:
        def answer(self) -> None: ...

        def _private(self) -> None: ...

    user, _ = made(Other)
    assert user.entry is None
    for name in ("", "__call__", "nope", "__init__"):
        with pytest.raises(EaglerayError, match=r"Available methods: \['_private', 'answer'\]"):
            user.find(name)


@pytest.mark.parametrize("raised", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_constructor_may_raise_anything(raised: type[BaseException], is_async: bool) -> None:
    if is_async:

        class Failing:
            async def __init__(self) -> None:
                raise raised()
    else:

        class Failing:  # type: ignore[no-redef]
            def __init__(self) -> None:
                raise raised()

    _, error = made(Failing)
    assert raised.__name__ in error
    assert "in __init__" in error and "eagleray/replica" not in error


def test_an_error_that_is_not_unicode_can_still_be_sent() -> None:
    class Failing:
        def __init__(self) -> None:
            raise FileNotFoundError(b"caf\xe9".decode(errors="surrogateescape"))

    _, error = made(Failing)
    assert "caf\\udce9" in error
    error.encode()


def test_async_constructor_and_loop() -> None:
    class Service:
        async def __init__(self, value: int) -> None:
            await asyncio.sleep(0)
            self.value = value

    class UsesLoop:
        def __init__(self) -> None:
            self.loop = asyncio.get_running_loop()

    user, error = made(Service, 5)
    assert not error and user.instance.value == 5
    assert made(UsesLoop)[1] == ""


def test_reconfigure_after_construction_with_rank_if_wanted() -> None:
    class Configured:
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def reconfigure(self, user_config: Any) -> None:
            self.seen.append((user_config, threading.current_thread().name))

    class Ranked(Configured):
        async def reconfigure(self, user_config: Any, rank: int) -> None:  # type: ignore[override]
            self.seen.append((user_config, rank))

    user, error = made(Configured, user_config={"a": 1})
    assert not error and user.instance.seen == [({"a": 1}, "user-hook")]
    assert made(Configured)[0].instance.seen == []
    assert made(Ranked, rank=2)[0].instance.seen == [(None, 2)]


def test_user_config_without_reconfigure_is_an_error() -> None:
    class Bare: ...

    assert "no `reconfigure` method" in made(Bare, user_config=1)[1]
    assert "Function deployment" in made(items, user_config=1)[1]
    assert "takes no bound arguments" in made(items, 1)[1]


def test_under_ray_names_a_user_config_that_nobody_takes_is_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Bare: ...

    with as_ray.hook():
        user, error = made(Bare, user_config={"version": "2.0"})
    assert not error and isinstance(user.instance, Bare)
    assert "no `reconfigure` method. It is ignored." in caplog.text


def test_reconfigure_forgets_what_it_knew_of_methods() -> None:
    class Swapping:
        def reconfigure(self, user_config: Any) -> None:
            self.answer = lambda: user_config

    user, _ = made(Swapping, user_config=1)
    assert user.find("answer").function() == 1
    assert asyncio.run(user.reconfigure(2, 0)) == ""
    assert "answer" not in user.known and user.find("answer").function() == 2


@pytest.mark.parametrize("raised", [RuntimeError("bad"), SystemExit(1), KeyboardInterrupt()])
def test_check_health(raised: BaseException) -> None:
    class Sick:
        def check_health(self) -> None:
            raise raised

    class SickAsync:
        async def check_health(self) -> None:
            raise raised

    class Fine:
        async def check_health(self) -> bool:
            return False

    class Without: ...

    for kind in (Sick, SickAsync):
        user, _ = made(kind)
        assert type(raised).__name__ in asyncio.run(user.check_health())
    assert asyncio.run(made(Fine)[0].check_health()) == ""
    assert asyncio.run(made(Without)[0].check_health()) == ""


@pytest.mark.parametrize("is_async", [False, True])
def test_del_runs_exactly_once(is_async: bool) -> None:
    runs: list[int] = []
    if is_async:

        class Deleted:
            async def __del__(self) -> None:
                await asyncio.sleep(0)
                runs.append(1)
    else:

        class Deleted:  # type: ignore[no-redef]
            def __del__(self) -> None:
                runs.append(1)

    user, _ = made(Deleted)
    for _ in range(2):
        assert asyncio.run(user.stop()) == ""
    user.instance = None
    gc.collect()
    assert runs == [1]


def test_a_raising_del_is_reported() -> None:
    class Deleted:
        def __del__(self) -> None:
            raise SystemExit(7)

    user, _ = made(Deleted)
    assert "SystemExit: 7" in asyncio.run(user.stop())
