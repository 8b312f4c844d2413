"""Surface 3.4: route prefixes, paths, root_path; section 10 check 6."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import Request
from tests.compat.impl import Instance, running, serve


@serve.deployment
class Where:
    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, request: Request) -> dict[str, Any]:
        return {"app": self.name, "path": request.url.path, "root_path": request.scope["root_path"]}


PREFIXES = {"root": "/", "a": "/a", "ab": "/a/b", "other": "/ab"}


@pytest.fixture(scope="module")
def routed(instance: Instance) -> Instance:
    serve.run_many(
        [
            serve.RunTarget(Where.bind(name), name=name, route_prefix=prefix)
            for name, prefix in PREFIXES.items()
        ]
    )
    return instance


@pytest.mark.parametrize(
    ("path", "app"),
    [
        ("/", "root"),
        ("/x", "root"),
        ("/a", "a"),
        ("/a/", "a"),
        ("/a/x", "a"),
        ("/a/b", "ab"),
        ("/a/b/", "ab"),
        ("/a/b/c?x=/ab", "ab"),
        ("/a/bc", "a"),
        ("/ab", "other"),
        ("/ab/x", "other"),
        ("/abc", "root"),
        ("/A", "root"),
    ],
)
def test_the_longest_prefix_of_whole_segments_wins(routed: Instance, path: str, app: str) -> None:
    found = routed.get(path).json()
    assert found["app"] == app
    assert found["path"] == path.partition("?")[0]
    assert found["root_path"] == PREFIXES[app].rstrip("/")


def test_without_a_root_application_the_rest_is_404(routed: Instance) -> None:
    serve.delete("root")
    assert routed.get("/x").status == 404
    assert routed.get("/a").json()["app"] == "a"


@pytest.fixture
def rooted(instance: Instance) -> Iterator[Instance]:
    serve.shutdown()
    with running(root_path="/outer") as started:
        yield started


def test_root_path_of_a_stripping_proxy(rooted: Instance) -> None:
    rooted.run(Where.bind("inner"), name="inner", route_prefix="/inner")
    found = rooted.get("/inner/x").json()
    assert found["root_path"] == "/outer/inner"
    assert found["path"] == "/outer/inner/x"
