"""`eagleray run`: what it prints, how it ends, and that each mistake is told once and clearly."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest
from tests.integration.cli.command import command, get
from tests.ports import free_port
from tests.processes import descendants

HELLO = """
from eagleray import serve

@serve.deployment
class Hello:
    async def __call__(self, request):
        return "hello " + request.query_params.get("name", "you")

app = Hello.bind()
wrong = Hello
"""


def write(home: Path, **sources: str) -> None:
    for name, source in sources.items():
        (home / f"{name}.py").write_text(source)


# ---- the first screen ------------------------------------------------------------------------------------------


def test_the_first_screen_and_nothing_else(home: Path) -> None:
    write(home, hello=HELLO)
    port = free_port()
    with command(home, "hello:app", "--port", str(port)) as running:
        url = running.wait_served()
        lines = running.out.text.splitlines()
        assert lines[:2] == [f"  App    http://127.0.0.1:{port}/", f"  Try    curl http://127.0.0.1:{port}/"]
        assert [line.split()[0] for line in lines] == ["App", "Try", "Logs", "Stop"]
        assert os.path.isdir(lines[2].split()[1]) and lines[3] == "  Stop   Ctrl-C"
        assert running.err.text == ""
        assert get(f"{url}?name=Ada") == "hello Ada"
        running.signal()
        assert running.end() == 0
        assert running.out.text.splitlines() == lines
        assert running.err.text.split() == ["Stopping", "..."]


def test_name_prefix_and_a_free_port(home: Path) -> None:
    write(home, hello=HELLO)
    arguments = ["hello:app", "--port", "0", "--name", "greeter", "--route-prefix", "/greet"]
    with command(home, *arguments) as running:
        url = running.wait_served()
        assert url.endswith("/greet") and ":0/" not in url
        assert get(url) == "hello you"
        assert json.loads(get(url.replace("/greet", "/-/routes"))) == {"/greet": "greeter"}
        running.signal(signal.SIGTERM)
        assert running.end() == 0


def test_an_application_without_a_route(home: Path) -> None:
    write(home, hello=HELLO)
    with command(home, "hello:app", "--port", "0", "--route-prefix", "none") as running:
        running.wait_served()
        assert running.out.text.splitlines()[0] == "  App    default (no HTTP route)"


# ---- the end ---------------------------------------------------------------------------------------------------

SLOW = """
import signal, time
from eagleray import serve

@serve.deployment(graceful_shutdown_timeout_s=600)
class Slow:
    def __init__(self, path):
        open(path, "w").close()
        signal.pause() if path == "begun" else None
    def __call__(self, request):
        open("asked", "w").close()
        time.sleep(600)

starting = Slow.bind("begun")
serving = Slow.bind("up")
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=["sigint", "sigterm"])
def test_a_signal_before_it_served(home: Path, signum: int) -> None:
    write(home, slow=SLOW)
    with command(home, "slow:starting", "--port", "0") as running:
        running.wait((home / "begun").exists, "the constructor")
        running.signal(signum)
        assert running.end() == 130
        assert (running.out.text, running.err.text) == ("", "")


def hears_signals(pid: int) -> bool:
    """Whether the command has begun to look after signals: SIGTERM is one that Python leaves alone."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("moment", ["imports", "directories", "node", "controller"])
def test_a_signal_at_any_moment_of_the_start(home: Path, moment: str) -> None:
    write(home, hello=HELLO)
    with command(home, "hello:app", "--port", "0") as running:
        reached = {
            "imports": lambda: hears_signals(running.process.pid),
            "directories": lambda: any(home.glob("run/*")),
            "node": lambda: bool(descendants(running.process.pid)),
            "controller": lambda: any(home.glob("state/sessions/*/logs/controller*")),
        }
        running.wait(reached[moment], moment)
        running.signal()
        code = running.end()
        assert (code, running.err.text) == (130, "") or (running.out.text and code == 0)


def test_a_second_signal_hurries(home: Path) -> None:
    write(home, slow=SLOW)
    with command(home, "slow:serving", "--port", "0") as running:
        url = running.wait_served()
        failures: list[BaseException] = []

        def ask() -> None:
            try:
                get(url)
            except (AssertionError, OSError) as error:
                failures.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        running.wait((home / "asked").exists, "the request")
        running.signal()
        running.wait(lambda: "Stopping" in running.err.text, "the announcement")
        running.signal()
        assert running.end() == 0
        asking.join()
        assert len(failures) == 1


# ---- what can be run -------------------------------------------------------------------------------------------

BUILDERS = """
from pydantic import BaseModel
from eagleray import serve

@serve.deployment
class Show:
    def __init__(self, value):
        self.value = value
    def __call__(self, request):
        return self.value

class Arguments(BaseModel):
    text: str
    times: int = 2

def untyped(args):
    return Show.bind({key: args[key] for key in sorted(args)})

def typed(args: Arguments):
    return Show.bind(args.text * args.times)
"""


@pytest.mark.parametrize(
    ("target", "arguments", "answer"),
    [
        ("untyped", ["b=x=y", "a=1"], '{"a":"1","b":"x=y"}'),
        ("typed", ["text=ab"], "abab"),
        ("typed", ["text=ab", "times=3"], "ababab"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_builders_with_arguments(home: Path, target: str, arguments: list[str], answer: str) -> None:
    (home / "lib").mkdir()
    write(home / "lib", builders=BUILDERS)
    with command(home, f"builders:{target}", *arguments, "--port", "0", "--app-dir", "lib") as running:
        assert get(running.wait_served()) == answer


FASTAPI = """
import os
from fastapi import FastAPI
from pydantic import BaseModel
from eagleray import serve

api = FastAPI()

class Item(BaseModel):
    name: str

@serve.deployment(num_replicas=5)
@serve.ingress(api)
class Api:
    @api.get("/pid/{number}")
    async def pid(self, number: int) -> dict[str, int]:
        return {"number": number, "pid": os.getpid()}

app = Api.bind()
"""


def test_five_replicas_of_a_fastapi_application(home: Path) -> None:
    write(home, five=FASTAPI)
    with command(home, "five:app", "--port", "0") as running:
        url = running.wait_served()
        assert running.err.text == ""
        pids: set[int] = set()

        def asked_all() -> bool:
            reply = json.loads(get(f"{url}pid/7"))
            assert reply["number"] == 7
            pids.add(reply["pid"])
            return len(pids) == 5

        running.wait(asked_all, "an answer of each replica")


COMPOSED = """
import asyncio
from eagleray import serve

@serve.deployment
class Times:
    def __init__(self, factor):
        self.factor = factor
    async def __call__(self, number):
        return number * self.factor

@serve.deployment
def plus_one(number):
    return number + 1

@serve.deployment
class Front:
    def __init__(self, models, named, *, nested):
        self.handles = [*models, named["plus"], *nested["deep"][0]]
    async def __call__(self, request):
        number = int(request.query_params["n"])
        return await asyncio.gather(*(handle.remote(number) for handle in self.handles))

two = Times.options(name="Two").bind(2)
app = Front.bind(
    [two, Times.options(name="Three").bind(3)], {"plus": plus_one.bind()}, nested={"deep": [(two,)]}
)
"""


def test_handles_in_lists_and_dicts(home: Path) -> None:
    write(home, composed=COMPOSED)
    with command(home, "composed:app", "--port", "0") as running:
        assert json.loads(get(running.wait_served() + "?n=5")) == [10, 15, 6, 10]
