"""Typed requests to a real replica: bodies of any size, all kinds of entry and result, no effect on handles."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from pydantic import BaseModel
from starlette.requests import Request
from tests.integration.replica.replica_process import Call, Replica, replica, until

from eagleray import serve

if TYPE_CHECKING:
    from decimal import Decimal as Missing

JSON = [(b"content-type", b"application/json")]


class Item(BaseModel):
    name: str
    sizes: list[float] = []


@dataclass
class Answer:
    name: str
    total: float


class Packed(msgspec.Struct, rename="camel"):
    the_name: str
    array: Any = None


class Async:
    async def __call__(self, item: Item) -> Answer:
        return Answer(item.name, sum(item.sizes))


class Sync:
    def __call__(self, item: Item) -> Answer:
        return Answer(item.name, sum(item.sizes))


def function(item: Item) -> Answer:
    return Answer(item.name, sum(item.sizes))


async def post(r: Replica, body: Any, **options: Any) -> tuple[int, Any]:
    call = r.http(method="POST", body=json.dumps(body).encode(), headers=JSON, **options)
    await call.done.wait()
    return status_and_json(call)


def status_and_json(call: Call) -> tuple[int, Any]:
    assert call.error is None, call.error
    return call.head.status, json.loads(call.body)


@pytest.mark.parametrize("target", [Async, Sync, function])
def test_entries_get_what_they_are_annotated_with(target: Any) -> None:
    async def main() -> None:
        async with replica(target) as r:
            assert await post(r, {"name": "n", "sizes": [1, 2]}) == (200, {"name": "n", "total": 3.0})
            status, refusal = await post(r, {"sizes": ["x"]})
            assert status == 422 and [one["loc"] for one in refusal["detail"]] == [
                ["body", "name"],
                ["body", "sizes", 0],
            ]
            big = {"name": "b", "sizes": [1.0] * 200_000}
            assert await post(r, big) == (200, {"name": "b", "total": 200_000.0})
            # Values of a handle are Python's and stay what they are.
            assert (await r.value("", Item(name="h"))).name == "h"
            assert r.ongoing == 0

    asyncio.run(main())


@pytest.mark.parametrize("target", [Async, Sync])
def test_an_upload_that_is_cut_off_or_comes_late(target: Any) -> None:
    async def main() -> None:
        async with replica(target, max_ongoing_requests=1) as r:
            body = json.dumps({"name": "x", "sizes": [2]}).encode()
            cut = r.http(method="POST", body=body[:5], headers=JSON, end=False)
            assert cut.stream is not None
            await cut.accepted.wait()
            cut.stream.cancel()
            await cut.done.wait()
            assert cut.error is not None and cut.error.code == "cancelled"
            late = r.http(method="POST", body=body[:5], headers=JSON, end=False)
            assert late.stream is not None
            await late.accepted.wait()
            late.stream.send(body[5:], end=True)
            await late.done.wait()
            assert status_and_json(late) == (200, {"name": "x", "total": 2.0})
            await until(lambda: r.ongoing == 0)

    asyncio.run(main())


class Kinds:
    """Answers in every way that has a type."""

    async def __call__(self, kind: str, request: Request) -> Any:
        return {
            "struct": Packed("s", np.array([1])),
            "structs": [Packed("s")],
            "model": Item(name="m"),
            "dataclass": Answer("d", 1.0),
            "dict": {"a": Answer("d", 1.0)},
            "path": request.url.path,
        }[kind]


def test_results_of_every_kind_are_json() -> None:
    async def main() -> None:
        async with replica(Kinds) as r:

            async def get(kind: str) -> Any:
                call = await r.get("/p", query=f"kind={kind}".encode())
                assert call.head.status == 200, kind
                return call.body

            assert await get("struct") == b'{"theName":"s","array":[1]}'
            assert await get("structs") == b'[{"theName":"s","array":null}]'
            assert await get("model") == b'{"name":"m","sizes":[]}'
            assert await get("dataclass") == b'{"name":"d","total":1.0}'
            assert await get("dict") == b'{"a":{"name":"d","total":1.0}}'
            assert await get("path") == b"/p"

    asyncio.run(main())


class Unresolvable:
    async def __call__(self, request: Missing) -> str:
        return type(request).__name__

    def reconfigure(self, config: Any) -> None: ...


def test_an_annotation_that_cannot_be_used_is_one_warning_and_the_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def main() -> None:
        async with replica(Unresolvable, user_config=b"1") as r:
            assert (await r.get()).body == b"Request"

    asyncio.run(main())
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "annotation" in line]
    assert "'D'" in warning and "'Missing'" in warning and "'request'" in warning


class Failing:
    def __call__(self, number: int) -> float:
        return 1 / number


def test_what_user_code_raises_is_still_500() -> None:
    async def main() -> None:
        async with replica(Failing) as r:
            call = await r.get(query=b"number=0")
            assert (call.head.status, call.body) == (500, b"Internal Server Error")
            assert (await r.get(query=b"number=2")).body == b"0.5"
            assert (await r.get(query=b"number=x")).head.status == 422

    asyncio.run(main())


class Batched:
    @serve.batch(max_batch_size=4, batch_wait_timeout_s=5)
    async def __call__(self, items: list[Item], factors: list[float]) -> list[list[Any]]:
        assert all(type(item) is Item for item in items)
        return [[len(items), factor * sum(item.sizes)] for item, factor in zip(items, factors, strict=True)]


def test_each_item_of_a_batch_is_decoded_and_a_wrong_one_never_gets_into_it() -> None:
    async def main() -> None:
        async with replica(Batched, max_ongoing_requests=10) as r:
            bodies = [{"items": {"name": str(n), "sizes": [n]}, "factors": 2} for n in range(4)]
            answers = await asyncio.gather(
                *(post(r, body) for body in [{"items": {}, "factors": 1}, *bodies])
            )
            assert [status for status, _ in answers] == [422, 200, 200, 200, 200]
            assert [body for _, body in answers[1:]] == [[4, 2.0 * n] for n in range(4)]

    asyncio.run(main())


class Arrays:
    def __call__(self, x: npt.NDArray[np.float32]) -> Any:
        return x * 2


def test_arrays() -> None:
    async def main() -> None:
        async with replica(Arrays) as r:
            assert await post(r, [[1, 2], [3, 4]]) == (200, [[2.0, 4.0], [6.0, 8.0]])
            binary = [(b"content-type", b"application/octet-stream")]
            call = r.http(method="POST", body=np.ones(100_000, "<f4").tobytes(), headers=binary)
            await call.done.wait()
            assert call.head.status == 200 and json.loads(call.body) == [2.0] * 100_000

    asyncio.run(main())
