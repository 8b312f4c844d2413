"""Makes docs/images/top.svg and bench.svg from an instance under load: `python -m tests.docs.render_captures`.

What they show is what the commands have said here: nothing is drawn by hand. It takes about half a minute.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text
from tests.integration.cli.detached import Shell, shell
from tests.waiting import wait_until

from eagleray.cli.top_picture import draw

IMAGES = Path(__file__).parents[2] / "docs" / "images"
WIDTH = 124
DEADLINE_S = 60.0

SHOP = """
import asyncio

from eagleray import serve


@serve.deployment(num_replicas=3, max_ongoing_requests=4)
class Embed:
    async def __call__(self, word):
        await asyncio.sleep(0.01)
        return word


@serve.deployment(max_ongoing_requests=8)
class Rank:
    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.005)
    async def __call__(self, words):
        await asyncio.sleep(0.02)
        return words


@serve.deployment(max_ongoing_requests=50)
class Search:
    def __init__(self, embed, rank):
        self.embed, self.rank = embed, rank

    async def __call__(self, request):
        return await self.rank.remote(self.embed.remote("word"))


app = Search.bind(Embed.bind(), Rank.bind())
"""

FORUM = """
from eagleray import serve


@serve.deployment
class Threads:
    def __call__(self, request):
        return "threads"


app = Threads.bind()
"""

CONFIG = """
applications:
- {name: shop, route_prefix: /shop, import_path: "shop:app"}
- {name: forum, route_prefix: /forum, import_path: "forum:app"}
"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="er-") as directory, shell(Path(directory)) as user:
        user.environ |= {"EAGLERAY_DRAIN_DELAY_S": "0", "EAGLERAY_ADMIN_PORT": "0"}
        for name, text in (("shop.py", SHOP), ("forum.py", FORUM), ("config.yaml", CONFIG)):
            user.write(name, text)
        user.start()
        user("deploy", "config.yaml", "--wait")
        load = bench(user, "shop", "--rate", "120", "--duration", "20s")
        other = bench(user, "forum", "--rate", "40", "--duration", "20s")
        wait_until(lambda: rate(look(user)) > 100, "the load", DEADLINE_S)
        victim = replicas(look(user), "Embed")[0]
        os.kill(victim["pid"], signal.SIGKILL)
        look(user)
        wait_until(lambda: len(settled(look(user))) == 3, "another replica", DEADLINE_S)
        overview = json.loads(user("top", "--json"))
        told, _ = load.communicate()
        other.communicate()
    address = "unix:/run/user/1000/eagleray/main/controller.sock"
    hint = "q quit   r replicas on or off   ↑ ↓ scroll"
    save("top", "eagleray top", draw(overview, width=WIDTH, address=address, hint=hint))
    command = "$ eagleray bench shop --rate 120 --duration 20s\n"
    save("bench", "eagleray bench", Text(command + told.replace(str(user.port), "8000")))


def bench(user: Shell, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "eagleray.cli", "bench", *arguments],
        cwd=user.home,
        env=user.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def look(user: Shell) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(user("top", "--json"))
    return found


def rate(overview: dict[str, Any]) -> float:
    return float(overview["applications"][0]["requests_per_s"] or 0.0)


def replicas(overview: dict[str, Any], deployment: str) -> list[dict[str, Any]]:
    return [
        replica
        for app in overview["applications"]
        for one in app["deployments"]
        for replica in one["replicas"]
        if one["name"] == deployment
    ]


def settled(overview: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in replicas(overview, "Embed") if one["requests_per_s"]]


def save(name: str, title: str, picture: RenderableType) -> None:
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / f"{name}.svg").write_text(to_svg(name, title, picture))


def to_svg(name: str, title: str, picture: RenderableType) -> str:
    """Without fonts from elsewhere: who looks at a page of ours asks nobody else for anything."""
    console = Console(
        record=True, file=StringIO(), width=WIDTH, force_terminal=True, color_system="truecolor"
    )
    console.print(picture)
    svg = console.export_svg(title=title, unique_id=f"eagleray-{name}")
    return re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL) + "\n"


if __name__ == "__main__":
    main()
