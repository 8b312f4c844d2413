"""`eagleray run` with a mistake: told once, on standard error, with its place, and nothing is left behind."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from tests.integration.cli.command import command, failing
from tests.integration.cli.test_run import HELLO, write

BAD = """
import threading
from pydantic import BaseModel
from eagleray import serve

@serve.deployment
class Raises:
    def __init__(self):
        self.weights = self.load()
    def load(self):
        raise ValueError("no weights in /models")
    def __call__(self, request): ...

@serve.deployment
class Holder:
    def __init__(self, held): ...
    def __call__(self, request): ...

class Model:
    def __init__(self):
        self._lock = threading.Lock()

class Arguments(BaseModel):
    size: int

raises = Raises.bind()
nested = Holder.bind([Raises.bind()])
locked = Holder.bind(Model())
number = 3

def typed(args: Arguments):
    return Holder.bind(args.size)
"""


def test_a_constructor_that_raises(home: Path) -> None:
    write(home, bad=BAD)
    for target in ("bad:raises", "bad:nested"):
        code, error = failing(home, target, "--port", "0")
        assert code == 1
        assert error.count("Traceback") == 1 and error.count("ValueError: no weights in /models") == 1
        files = [line for line in error.splitlines() if line.startswith("  File ")]
        assert files == [
            f'  File "{home}/bad.py", line 9, in __init__',
            f'  File "{home}/bad.py", line 11, in load',
        ]
        assert "Deployment 'Raises'" in error and f"Logs: {home}" in error


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("hullo:app", ["Module 'hullo'", "Did you mean 'hello'?", "--app-dir", "{home}"]),
        ("package.hello:app", ["Module 'package.hello'", "not found"]),
        ("hello:ap", ["'ap'", "{home}/hello.py", "Did you mean 'app'?"]),
        ("hello:wrong", ["{home}/hello.py", "app = Hello.bind()"]),
        ("bad:number", ["{home}/bad.py", "must be an application", "got int"]),
        ("bad:locked", ["{home}/bad.py", "'Holder'", "argument 0", "Model._lock", "create it inside"]),
        ("syntax:app", ['{home}/syntax.py", line 2', "SyntaxError"]),
        ("lacks:app", ['{home}/lacks.py", line 1', "No module named 'not_installed_anywhere'"]),
        ("dies:app", ["'dies:app' could not be imported", "exit code 3", "builder_default.log"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_target(home: Path, target: str, words: list[str]) -> None:
    dies = "import os; os._exit(3)"
    write(
        home, hello=HELLO, bad=BAD, syntax="x = 1\ndef (:\n", lacks="import not_installed_anywhere", dies=dies
    )
    code, error = failing(home, target, "--port", "0")
    assert code == 1
    missing = [word for word in words if word.format(home=home) not in error]
    assert not missing, error
    assert error.count("failed:") == 1 and "eagleray/" not in error.replace("/eagleray/sessions", "")


def test_a_builder_that_gets_wrong_arguments(home: Path) -> None:
    write(home, bad=BAD)
    code, error = failing(home, "bad:typed", "size=many", "--port", "0")
    assert code == 1
    assert (
        f"{home}/bad.py" in error
        and "size: Input should be a valid integer" in error
        and "size=many" in error
    )


def test_a_port_in_use(home: Path) -> None:
    write(home, hello=HELLO)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, error = failing(home, "hello:app", "--port", str(port))
    assert code == 1
    assert f"127.0.0.1:{port}" in error and f"process {os.getpid()}" in error and "choose another" in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["IMPORT_PATH"]),
        (["hello.py"], ["no import path", "write 'hello:app'"]),
        (["./models/hello.py:main"], ["write 'models.hello:main'"]),
        (["hello"], ["write 'hello:app'"]),
        ([":app"], ["':app' is no import path"]),
        (["/:app"], ["'/:app' is no import path"]),
        (["hello:app", "--app-dir", "/not/there"], ["--app-dir", "/not/there"]),
        (["hello:app", "--port", "70000"], ["--port"]),
        (["hello:app", "--route-prefix", "x"], ["--route-prefix", "start with '/'"]),
        (["hello:app", "--name", "a#b"], ["--name"]),
    ],
    ids=lambda value: " ".join(value[-2:]),
)
def test_wrong_usage(home: Path, arguments: list[str], words: list[str]) -> None:
    code, error = failing(home, *arguments)
    assert code == 2
    assert error.startswith("Usage: ") and all(word in error for word in words), error
    assert not (home / "state").exists()


def test_an_argument_without_a_value(home: Path) -> None:
    code, error = failing(home, "hello:app", "novalue")
    assert code == 1, "as with Ray Serve"
    assert "Invalid application argument 'novalue'" in error and "<key>=<val>" in error


def test_a_setting_that_cannot_be_read(home: Path) -> None:
    write(home, hello=HELLO)
    code, error = failing(home, "hello:app", EAGLERAY_NUM_GPUS="two", EAGLERAY_KEEP_SESSIONS="x")
    assert code == 1
    assert (
        "EAGLERAY_NUM_GPUS='two'" in error and "EAGLERAY_KEEP_SESSIONS" in error and "Traceback" not in error
    )


HANGS = """
import time
from eagleray import serve

@serve.deployment
class Hangs:
    def __init__(self):
        time.sleep(3600)
    def __call__(self, request): ...

app = Hangs.bind()
"""


def test_a_constructor_that_hangs_is_told_of_meanwhile(home: Path) -> None:
    write(home, hangs=HANGS)
    with command(home, "hangs:app", "--port", "0") as running:
        running.wait(lambda: "press Ctrl-C" in running.err.text, "a word of it")
        assert "Deployment 'Hangs': its constructor has not returned for 5 s" in running.err.text
        running.signal()
        assert running.end() == 130
