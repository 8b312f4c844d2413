"""Sends many requests, a limited number at a time, and tells how many came back and how fast.

python -m d000.deploy_and_manage.load_test http://localhost:8000/simple_service      (in examples/seeds)
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import aiohttp


async def send_request(session: aiohttp.ClientSession, url: str, data: Any) -> Any:
    """The answer's JSON. aiohttp.ClientError for a status that is an error, and for connections that fail."""
    async with session.post(url, json=data) as response:
        response.raise_for_status()
        return await response.json()


async def load_test(url: str, num_requests: int = 1000, concurrency: int = 50) -> dict[str, float]:
    """Requests a second (those that succeeded), the share of them, and the time of all in seconds."""
    limit = asyncio.Semaphore(concurrency)
    data = {"features": [1.0, 2.0, 3.0, 4.0]}

    async def bounded_request(session: aiohttp.ClientSession) -> Any:
        async with limit:
            return await send_request(session, url, data)

    started = time.perf_counter()
    async with aiohttp.ClientSession() as session:
        results = await asyncio.gather(
            *(bounded_request(session) for _ in range(num_requests)), return_exceptions=True
        )
    total_time = time.perf_counter() - started
    failed = [result for result in results if isinstance(result, BaseException)]
    successful = num_requests - len(failed)
    print("Load test results:")
    print(f"  Total requests: {num_requests}")
    print(f"  Successful: {successful}")
    print(f"  Failed: {len(failed)}" + (f", the first one by {failed[0]!r}" if failed else ""))
    print(f"  QPS: {successful / total_time:.2f}")
    print(f"  Total time: {total_time:.2f}s")
    return {
        "qps": successful / total_time,
        "success_rate": successful / num_requests,
        "total_time": total_time,
    }


async def performance_testing(url: str) -> dict[str, float]:
    """1000 requests, a hundred at a time."""
    return await load_test(url, num_requests=1000, concurrency=100)


if __name__ == "__main__":
    asyncio.run(performance_testing(sys.argv[1] if sys.argv[1:] else "http://localhost:8000/simple_service"))
