"""`eagleray run config.yaml`: all applications of a file, its HTTP options, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

from tests.integration.cli.command import command, failing, get
from tests.ports import free_port

MODELS = """
from eagleray import serve

@serve.deployment
class Model:
    def __init__(self, name="model"):
        self.name = name
    async def __call__(self, request):
        return self.name

app = Model.bind()

def build(args):
    return Model.bind(args["name"])

@serve.deployment
class Raises:
    def __init__(self):
        raise ValueError("no weights")

raises = Raises.bind()
"""

CONFIG = """
http_options: {{host: 127.0.0.1, port: {port}}}
applications:
- {{name: one, route_prefix: /one, import_path: "models:app"}}
- {{name: two, route_prefix: /two, import_path: "models:build", args: {{name: second}}}}
"""


def test_all_applications_of_a_file(home: Path) -> None:
    port = free_port()
    (home / "models.py").write_text(MODELS)
    (home / "c.yaml").write_text(CONFIG.format(port=port))
    with command(home, "c.yaml") as running:
        running.wait_served()
        lines = running.out.text.splitlines()
        assert lines[:2] == [
            f"  App    http://127.0.0.1:{port}/one  one",
            f"  App    http://127.0.0.1:{port}/two  two",
        ]
        assert get(f"http://127.0.0.1:{port}/one") == "model"
        assert get(f"http://127.0.0.1:{port}/two") == "second"
        assert running.err.text == ""
        running.signal()
        assert running.end() == 0


def test_options_beside_the_file_win_and_one_failure_is_told(home: Path) -> None:
    (home / "models.py").write_text(MODELS)
    text = CONFIG.format(port=1) + '- {name: bad, route_prefix: /bad, import_path: "models:raises", nme: x}\n'
    (home / "c.yaml").write_text(text)
    with command(home, "c.yaml", "--port", "0", "ignored=1") as running:
        url = running.wait_served()
        assert get(url) == "model"
        said = running.err.text
        assert "Deploying application bad failed" in said and "ValueError: no weights" in said
        assert "applications[2].nme: this key is unknown" in said and "['ignored=1'] are ignored" in said
        running.signal()
        assert running.end() == 0


def test_mistakes_in_a_file_start_nothing(home: Path) -> None:
    (home / "c.yaml").write_text("applications: [{import_path: x}, {name: 3}]")
    code, error = failing(home, "c.yaml")
    assert code == 1 and "applications[0].import_path: must be of the form" in error
    assert "applications[1].import_path: is required" in error and "applications[1].name" in error
    assert not (home / "state").exists()
    code, error = failing(home, "c.yaml", "--reload")
    assert code == 2 and "--reload needs an import path" in error


ENVIRONED = """
import os
from eagleray import serve

@serve.deployment
class Model:
    def __call__(self):
        return f"{os.environ['KIND']} {os.path.basename(os.getcwd())} {open('here.txt').read()}"

def build(args):
    return Model.bind()
"""


def test_an_import_path_with_a_runtime_environment(home: Path) -> None:
    port = free_port()
    work = home / "work"
    work.mkdir()
    (work / "environed.py").write_text(ENVIRONED)
    (work / "here.txt").write_text("inside")
    environment = '{"env_vars": {"KIND": "mine"}}'
    arguments = ["--runtime-env-json", environment, "--working-dir", str(work), "--port", str(port)]
    with command(home, *arguments, "--route-prefix", "/model", "environed:build", "unused=1") as running:
        running.wait_served()
        assert get(f"http://127.0.0.1:{port}/model").startswith("mine ")
        assert get(f"http://127.0.0.1:{port}/model").endswith(" inside")
        running.signal()
        assert running.end() == 0
    code, told = failing(home, "--reload", "--runtime-env-json", environment, "environed:build")
    assert code == 2 and "--reload needs an import path alone" in told
