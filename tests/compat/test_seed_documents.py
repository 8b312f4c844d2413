"""`seed_documents.py` on articles of our own: what it cuts out, what it runs, and what it says of the rest."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.compat.impl import ON_RAY, ROOT
from tests.compat.seeds.programs import programs
from tests.compat.seeds.reading import excerpts, read

ARTICLE = """
# Serving, a tour

## 1. Greetings

A class becomes a deployment by a decorator:

```python
import ray
from ray import serve

@serve.deployment
class Greeter:
    def __call__(self, name: str) -> str:
        return f"hello {name}"
```

Bind it, and run it from the command line:

```python
app = Greeter.bind()
```

A class without a body is none:

```python
@serve.deployment(num_replicas=2)
class Later:
    ...
```

## 2. Tasks

Actors and tasks are Ray's own:

```python
@ray.remote
def square(x):
    return x * x

print(ray.get(square.remote(4)))
```

A script of its own, which ends:

```python
serve.start()
print(serve.status().applications)
serve.shutdown()
```

What an article leaves out:

```python
@serve.deployment
class Scorer:
    def __init__(self):
        self.model = load_model()

    def __call__(self, request):
        return self.model.score(request)
```

```python
@serve.deployment(
    num_replicas=2,
)
```

```bash
pip install ray
```
"""

PLAIN = """一、开头
#
A deployment, as a web page shows it:

from fastapi import FastAPI
from ray import serve

api = FastAPI()

@serve.deployment
@serve.ingress(api)
class Doubler:
    @api.post("/double")
    async def double(self, req: dict):
        return {"text": req["text"] * 2}

  • it has one route
  • and no state

And then

doubler = Doubler.bind()
serve.run(doubler, route_prefix="/math")

which serves it.

二、Without indentation
#
from ray import serve
@serve.deployment
class Lost:
def __call__(self, request):
return "lost"
so it cannot run.
"""

FAILING = """
```python
from ray import serve

@serve.deployment
class Broken:
    def __call__(self, request):
        raise KeyError("broken")

serve.run(Broken.bind())
```
"""


@pytest.fixture(autouse=True)
def limit() -> None:
    """Longer than a script's of this folder: a command that starts several programs has a deadline of its own."""


def verdicts(folder: Path) -> tuple[int, dict[str, str], str]:
    """Exit status, program -> verdict, the last line."""
    command = [sys.executable, str(ROOT / "tests/compat/seed_documents.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    _, *lines, last = done.stdout.splitlines() or ["", done.stderr]
    rows = [re.split(r" {2,}", line, maxsplit=3) for line in lines]
    return done.returncode, {row[1]: row[3] for row in rows}, last


@pytest.mark.skipif(ON_RAY, reason="about as_ray")
def test_programs_are_cut_out_and_run(tmp_path: Path) -> None:
    (tmp_path / "tour.md").write_text(ARTICLE)
    (tmp_path / "page.txt").write_text(PLAIN)
    (tmp_path / "empty.txt").write_text("Nothing but prose.\n")
    status, said, last = verdicts(tmp_path)
    needs_ray = said.pop("square")
    assert needs_ray.startswith("needs Ray Core: 'ray.remote'") and "Ray engine" in needs_ray
    assert said == {
        "-": "incomplete: a fragment: a decorator that decorates nothing",
        "Greeter": "ran: POST / answered 200",
        "Later": "incomplete: Later has no body",
        "Scorer": "incomplete: name load_model is not defined, line 58",
        "serve.start, print, serve.status, ser...": "ran to its end",
        "Doubler": "ran: POST /math/double answered 200",
        "Lost": "incomplete: IndentationError at line 4 of the excerpt: expected an indented block after class "
        "definition on line 3 (the document has lost its indentation)",
    }
    assert (status, last) == (0, "programs: 4 as intended, 0 failed, 0 not run here, 4 incomplete")


@pytest.mark.skipif(ON_RAY, reason="about as_ray")
def test_a_complete_program_that_fails_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken.md").write_text(FAILING)
    status, said, last = verdicts(tmp_path)
    assert said["Broken"].startswith("failed: POST / answered 500, its handle RemoteError(KeyError)")
    assert (status, last) == (1, "programs: 0 as intended, 1 failed, 0 not run here, 0 incomplete")


def test_a_folder_without_documents(tmp_path: Path) -> None:
    assert verdicts(tmp_path)[0] == 1
    assert verdicts(tmp_path / "none")[0] == 2


def test_text_that_was_decoded_wrongly(tmp_path: Path) -> None:
    right = "## 配置\n\n```python\nSIZE = 2  # 两个\n```\n"
    (tmp_path / "wrong.txt").write_text(right.encode().decode("latin-1"))
    assert read(tmp_path / "wrong.txt") == right
    (tmp_path / "right.txt").write_text(right)
    assert read(tmp_path / "right.txt") == right
    (tmp_path / "french.txt").write_text("Voilà: déjà vu.\n")
    assert read(tmp_path / "french.txt") == "Voilà: déjà vu.\n"


def test_excerpts_are_the_text_of_the_document(tmp_path: Path) -> None:
    (tmp_path / "page.txt").write_text(PLAIN)
    lines = PLAIN.splitlines()
    for one in excerpts(tmp_path / "page.txt"):
        assert one.text.splitlines() == lines[one.first - 1 :][: one.text.count("\n")]
    names = [(one.name, one.lines) for one in programs(tmp_path / "page.txt")]
    assert names == [("Doubler", "8-15, 22-23"), ("Lost", "29-33")]


def test_the_ingress_is_asked_wherever_it_is_defined(tmp_path: Path) -> None:
    init = "    def __init__(self, inner): self.inner = inner\n"
    front = f"@serve.deployment\nclass Front:\n{init}    def __call__(self, text: str): return 1\n"
    inner = "@serve.deployment\nclass Inner:\n    def __call__(self, body: dict): return body['size']\n"
    code = f"from ray import serve\n{front}{inner}"
    for binding in ("app = Front.bind(Inner.bind())", "inner = Inner.bind()\napp = Front.bind(inner)"):
        (tmp_path / "two.md").write_text(f"```python\n{code}{binding}\n```\n")
        (one,) = programs(tmp_path / "two.md")
        assert (one.target, [type(ask.body) for ask in one.asks]) == ("program:app", [str])


def test_names_are_looked_for_in_the_chapter_and_imports_everywhere(tmp_path: Path) -> None:
    used = "```python\n@serve.deployment\nclass Late(Base):\n    def __call__(self): return SIZE\n```\n"
    first = "```python\nfrom ray import serve\nSIZE = 2\nclass Base:\n    pass\n```\n"
    for heading, why in (("", ""), ("## Two\n", "name Base is not defined, line 11 (and 1 more)")):
        (tmp_path / "two.md").write_text(f"## One\n{first}{heading}{used}")
        last = programs(tmp_path / "two.md")[-1]
        assert (last.name, last.incomplete) == ("Late", why)
