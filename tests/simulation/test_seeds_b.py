"""The second half of the seeds that every `make test` runs."""

from __future__ import annotations

import pytest
from tests.simulation.seeds import CHUNK, check


@pytest.mark.parametrize("first", range(500, 1000, CHUNK))
def test_no_invariant_is_violated(first: int) -> None:
    check(first)
