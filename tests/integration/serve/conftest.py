"""One instance for all tests of a module that wants it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.ports import free_port

from eagleray import serve


@pytest.fixture(scope="module")
def instance() -> Iterator[None]:
    serve.start(http_options={"port": free_port()})
    yield
    serve.shutdown()
