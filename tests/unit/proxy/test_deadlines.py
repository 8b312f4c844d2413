from __future__ import annotations

import asyncio

from eagleray.proxy.deadlines import Deadlines


class Request:
    def __init__(self) -> None:
        self.struck_at: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def on_deadline(self) -> None:
        self.struck_at.set_result(asyncio.get_running_loop().time())


def test_a_deadline_strikes_not_before_its_time() -> None:
    async def main() -> None:
        deadlines = Deadlines()
        begin = asyncio.get_running_loop().time()
        requests = [Request() for _ in range(3)]
        for request in requests:
            deadlines.add(request, 0.02)
        for request in requests:
            assert await asyncio.wait_for(request.struck_at, 10) >= begin + 0.02

    asyncio.run(main())


def test_who_has_left_the_bucket_is_not_struck() -> None:
    async def main() -> None:
        deadlines = Deadlines()
        gone, stays = Request(), Request()
        deadlines.add(gone, 0.01).discard(gone)
        deadlines.add(stays, 0.05)
        await asyncio.wait_for(stays.struck_at, 10)
        assert not gone.struck_at.done()

    asyncio.run(main())


def test_many_requests_with_one_timeout_share_few_timers() -> None:
    async def main() -> None:
        deadlines = Deadlines()
        for _ in range(1000):
            deadlines.add(Request(), 60.0)
        assert len(deadlines._buckets) <= 2

    asyncio.run(main())
