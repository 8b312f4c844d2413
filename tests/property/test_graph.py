"""Any graph of bound deployments builds into a record that has the same shape."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from eagleray import serve
from eagleray.serve.graph import build_application
from eagleray.serve.handle import DeploymentHandle
from eagleray.spec.application import ApplicationSpec
from eagleray.wire import codec


@serve.deployment
class Node:
    """Takes anything."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args


NAMES = st.sampled_from(["Node", "a", "b"])


@st.composite
def graphs(draw: st.DrawFn) -> tuple[serve.Application, dict[int, list[serve.Application]]]:
    """A random graph, bottom up, and the children of each node in the order in which they stand."""
    made: list[serve.Application] = []
    children: dict[int, list[serve.Application]] = {}
    for _ in range(draw(st.integers(1, 7))):
        chosen = draw(st.lists(st.sampled_from(made), max_size=4)) if made else []
        args = [_wrap(draw(st.integers(0, 4)), child) for child in chosen]
        split = draw(st.integers(0, len(args)))
        keywords = {f"k{number}": value for number, value in enumerate(args[split:])}
        application = Node.options(name=draw(NAMES)).bind(*args[:split], **keywords)
        children[id(application)] = chosen
        made.append(application)
    return made[-1], children


def _wrap(depth: int, value: Any) -> Any:
    for level in range(depth):
        value = ([value], (0, value), {"x": value})[level % 3]
    return value


def _handles(value: Any) -> list[str]:
    if isinstance(value, DeploymentHandle):
        return [value.deployment_name]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return []
    return [name for item in value for name in _handles(item)]


@given(graphs())
def test_handles_stand_where_applications_stood(
    graph: tuple[serve.Application, dict[int, list[serve.Application]]],
) -> None:
    root, children = graph
    spec, blobs = build_application(root, name="app", route_prefix="/", make_version=lambda *_: "v")
    assert ApplicationSpec.from_json(spec.to_json()) == spec
    assert spec.blobs == set(blobs)
    by_name = {deployment.name: deployment for deployment in spec.deployments}
    names: dict[int, str] = {}

    def visit(application: serve.Application, name: str) -> None:
        assert names.setdefault(id(application), name) == name, "shared applications are one deployment"
        bound = by_name[name]
        held = list(codec.load_code(blobs[bound.init])) if bound.init else []
        found = _handles(held)
        assert len(found) == len(children[id(application)])
        assert bound.children == list(dict.fromkeys(found))
        for child, child_name in zip(children[id(application)], found, strict=True):
            assert child_name.startswith(child.deployment.name)
            visit(child, child_name)

    visit(root, spec.ingress.name)
    assert sorted(names.values()) == sorted(by_name), (
        "every deployment is reachable, and no name is used twice"
    )
