"""The workloads in Ray Serve's API: the same code runs on Eagleray and, with `SERVE_IMPL=ray`, on Ray Serve.

Every deployment takes 1,000 requests at once, because the default of 5 would measure the queue. Builders take the
string arguments that both command lines pass (`depth=2`).

No `from __future__ import annotations` here: on Ray, FastAPI then takes the body's model for a query parameter.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

from batcher import MODEL_S, SIZE, WAIT_S
from fastapi import FastAPI
from flower import Flower, Score, score
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

if os.environ.get("SERVE_IMPL") == "ray":
    from ray import serve
else:
    from eagleray import serve  # type: ignore[no-redef]

TARGET: dict[str, Any] = {} if os.environ.get("SERVE_IMPL") == "ray" else {"latency_target_s": 0.05}
OPTIONS: dict[str, Any] = {"max_ongoing_requests": 1000, "ray_actor_options": {"num_cpus": 0}}
web = FastAPI()


@serve.deployment(**OPTIONS)
class Noop:
    async def __call__(self, request: Request) -> str:
        return "ok"

    async def answer(self) -> str:
        return "ok"


@serve.deployment(**OPTIONS)
class Rpc:
    """Answers RPCs of answer.proto."""

    def __init__(self) -> None:
        import answer_pb2  # generated, and only for this workload

        self.reply = answer_pb2.Reply

    async def Answer(self, request: Any) -> Any:
        return self.reply(text="ok")


@serve.deployment(**OPTIONS)
class Echo:
    async def __call__(self, request: Request) -> Response:
        return Response(await request.body(), media_type="application/octet-stream")


@serve.deployment(**OPTIONS)
class Batched:
    @serve.batch(max_batch_size=SIZE, batch_wait_timeout_s=WAIT_S)
    async def model(self, items: list[str]) -> list[str]:
        time.sleep(MODEL_S)  # noqa: ASYNC251 - a model that blocks
        return items

    async def __call__(self, request: Request) -> str:
        return await self.model("ok")


@serve.deployment(**OPTIONS)
class BatchLatency:
    """A model of fixed + per_item x n milliseconds, in a thread, batched by fixed settings and by a latency target.

    `/set?size=&wait_ms=&fixed_ms=&per_item_ms=` changes what it is given; `/fixed` and `/target` ask the model.
    """

    def __init__(self) -> None:
        self.fixed_s, self.per_item_s = 0.008, 0.0004

    async def compute(self, items: list[str]) -> list[str]:
        seconds = self.fixed_s + self.per_item_s * len(items)
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, seconds)
        return items

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0)
    async def fixed(self, items: list[str]) -> list[str]:
        return await self.compute(items)

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.02, **TARGET)
    async def target(self, items: list[str]) -> list[str]:
        return await self.compute(items)

    async def __call__(self, request: Request) -> str:
        path = request.url.path
        if path == "/fixed":
            return await self.fixed("ok")
        if path == "/target":
            return await self.target("ok")
        given = {name: float(value) for name, value in request.query_params.items()}
        if "size" in given:
            self.fixed.set_max_batch_size(given["size"])
            self.fixed.set_batch_wait_timeout_s(given["wait_ms"] / 1000)
        if "fixed_ms" in given:
            self.fixed_s, self.per_item_s = given["fixed_ms"] / 1000, given["per_item_ms"] / 1000
        return "ok"


@serve.deployment(**OPTIONS)
@serve.ingress(web)
class Json:
    @web.post("/score")
    async def predict(self, flower: Flower) -> Score:
        return score(flower)


@serve.deployment(**OPTIONS)
class Typed:
    """What Json does, without a framework."""

    async def __call__(self, flower: Flower) -> Score:
        return score(flower)


@serve.deployment(**OPTIONS)
class Stream:
    async def chunks(self, pause_s: float = 0.0) -> AsyncIterator[bytes]:
        for number in range(1000):
            if number == 1 and pause_s:
                await asyncio.sleep(pause_s)
            yield b"chunk %03d\n" % number

    async def __call__(self, request: Request) -> StreamingResponse:
        pause_s = 0.005 if request.scope["query_string"] else 0.0
        return StreamingResponse(self.chunks(pause_s), media_type="text/plain")


@serve.deployment(**OPTIONS)
class Relay:
    """Hands on the chunks of another deployment."""

    def __init__(self, source: Any) -> None:
        self.source = source.options(stream=True)

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self.source.chunks.remote():
            yield chunk

    async def __call__(self, request: Request) -> StreamingResponse:
        return StreamingResponse(self.chunks(), media_type="text/plain")


@serve.deployment(**{**OPTIONS, "max_ongoing_requests": 8, "max_queued_requests": 8})
class Busy:
    """Has room for 8 requests of 20 ms, and for 8 that wait."""

    async def __call__(self, request: Request) -> str:
        await asyncio.sleep(0.02)
        return "ok"


@serve.deployment(**OPTIONS)
class Link:
    """One further deployment of a chain: hands the text on, the last one answers it."""

    def __init__(self, following: Any = None) -> None:
        self.following = following

    async def __call__(self, text: str) -> str:
        return text if self.following is None else await self.following.remote(text)


@serve.deployment(**OPTIONS)
class Sum:
    """Looks at one value of every page of an array of float64."""

    async def __call__(self, array: Any) -> float:
        return float(array[::512].sum())


@serve.deployment(**OPTIONS)
class Arrays:
    """Sends arrays of 10 MB to Sum, one after the other, and says how long each takes."""

    def __init__(self, following: Any) -> None:
        self.following = following

    async def __call__(self, request: Request) -> str:
        return "ok"

    async def send(self, seconds: float) -> list[float]:
        import numpy as np  # only this workload has it

        array = np.arange(1_250_000, dtype=np.float64)
        total = float(array[::512].sum())
        latencies = []
        before = time.perf_counter()
        deadline = before + seconds
        while before < deadline:
            found = await self.following.remote(array)
            after = time.perf_counter()
            latencies.append(after - before)
            if found != total:
                raise ValueError(f"the sum of the array is {found}, not {total}")
            before = time.perf_counter()
        return latencies


@serve.deployment(**OPTIONS)
class Entry:
    """HTTP entry of a chain."""

    def __init__(self, following: Any = None) -> None:
        self.following = following

    async def __call__(self, request: Request) -> str:
        return "ok" if self.following is None else await self.following.remote("ok")


def multiplex(arguments: dict[str, str]) -> Any:
    from models import Models  # not there for checkouts without `serve.multiplexed`

    return Models.bind()


def noop(arguments: dict[str, str]) -> Any:
    return Noop.bind()


def rpc(arguments: dict[str, str]) -> Any:
    return Rpc.bind()


def json(arguments: dict[str, str]) -> Any:
    return Json.bind()


def typed(arguments: dict[str, str]) -> Any:
    return Typed.bind()


def arrays(arguments: dict[str, str]) -> Any:
    return Arrays.bind(Sum.bind())


def echo(arguments: dict[str, str]) -> Any:
    return Echo.bind()


def batch(arguments: dict[str, str]) -> Any:
    return Batched.bind()


def batch_latency(arguments: dict[str, str]) -> Any:
    return BatchLatency.bind()


def chain(arguments: dict[str, str]) -> Any:
    """`depth` deployments: the entry and depth - 1 links behind it, each bound with a handle to the next."""
    following = None
    for position in range(int(arguments["depth"]), 1, -1):
        link = Link.options(name=f"Link{position}")
        following = link.bind() if following is None else link.bind(following)
    return Entry.bind() if following is None else Entry.bind(following)


def stream(arguments: dict[str, str]) -> Any:
    return Stream.bind()


def relay(arguments: dict[str, str]) -> Any:
    return Relay.bind(Stream.bind())


def overload(arguments: dict[str, str]) -> Any:
    return Busy.bind()
