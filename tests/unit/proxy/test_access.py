from __future__ import annotations

import asyncio
import re

from eagleray.proxy.access import AccessLog


def test_lines_are_written_in_one_burst_with_a_prefix_from_the_second_on() -> None:
    async def main() -> None:
        written: list[str] = []
        log = AccessLog(written.append, "proxy p1")
        log.add("GET", "/a", 200, 0.01234, ("1.2.3.4", 5))
        log.add("POST", "", 404, 0.0, None)
        assert written == []
        log.flush()
        (text,) = written
        first, second = text.split("\n")
        assert first == "GET /a 200 12.3ms"
        assert re.fullmatch(r"INFO \d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} proxy p1 -- POST  404 0\.0ms", second)
        log.flush()
        assert len(written) == 1, "nothing new, nothing written"

    asyncio.run(main())


def test_client_address_on_demand() -> None:
    async def main() -> None:
        written: list[str] = []
        log = AccessLog(written.append, "proxy p1", client_address=True)
        log.add("GET", "/", 200, 0.001, ("1.2.3.4", 5))
        log.add("GET", "/", 200, 0.001, None)
        log.flush()
        assert [line.split(" -- ")[-1] for line in written[0].split("\n")] == [
            "1.2.3.4:5 GET / 200 1.0ms",
            "GET / 200 1.0ms",
        ]

    asyncio.run(main())


def test_the_timer_flushes_by_itself() -> None:
    async def main() -> None:
        written = asyncio.get_running_loop().create_future()
        log = AccessLog(written.set_result, "proxy p1")
        log.add("GET", "/", 200, 0.0, None)
        assert await asyncio.wait_for(written, 10) == "GET / 200 0.0ms"

    asyncio.run(main())
