"""An instance of its own, without a driver: node and the controller, asked by REST as an operator would."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.processes import descendants, still_alive
from tests.waiting import wait_until

from eagleray.admin.tokens import URL_FILE
from eagleray.cli.remote import RemoteInstance
from eagleray.engine.spawn import NodeProcess, node_config, spawn_node


@contextlib.contextmanager
def running_node(home: Path, module: str, code: str, **variables: str) -> Iterator[NodeProcess]:
    """In `home`, where `module` has `code`; with these environment variables. None of its processes is left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EAGLERAY_RUNTIME_HOME", f"{home}/run")
        patch.setenv("EAGLERAY_STATE_HOME", f"{home}/state")
        patch.setenv("EAGLERAY_ADMIN_PORT", "0")
        for name, value in variables.items():
            patch.setenv(name, value)
        (home / f"{module}.py").write_text(code)
        patch.chdir(home)
        node = spawn_node(node_config(http_port=0))
        everything = {node.pid}
        try:
            wait_until(lambda: Path(node.runtime_dir, URL_FILE).exists(), what="a REST server")
            yield node
        finally:
            everything |= descendants(node.pid)
            node.close()
        assert not still_alive(everything)


def rest(node: NodeProcess) -> RemoteInstance:
    """Its REST API, with the administrator's token."""
    return RemoteInstance(Path(node.runtime_dir, URL_FILE).read_text().strip())
