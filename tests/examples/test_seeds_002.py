"""The programs of documents 002 and 003 as users run them, on real models, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.examples.seed_programs import document_served, names, send_declared
from tests.fault.instance import Instance

DOCUMENT = "d002"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with document_served(DOCUMENT, tmp_path_factory.mktemp(DOCUMENT), EAGLERAY_NUM_GPUS="16") as running:
        yield running


@pytest.mark.parametrize("name", names(DOCUMENT))
def test_a_program_answers_what_it_declares(instance: Instance, name: str) -> None:
    send_declared(instance.port, DOCUMENT, name)
