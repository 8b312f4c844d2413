"""The programs of document 001 as users run them, on a real embedding model, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.examples.seed_programs import document_served, names, send_declared
from tests.fault.instance import Instance, serving

DOCUMENT = "d001"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with document_served(DOCUMENT, tmp_path_factory.mktemp(DOCUMENT), EAGLERAY_NUM_GPUS="2") as running:
        yield running


@pytest.fixture(scope="module")
def production() -> Iterator[Instance]:
    with serving("d001/embedding/production.yaml", "examples/seeds", {"EAGLERAY_NUM_GPUS": "1"}) as running:
        yield running


@pytest.mark.parametrize("name", names(DOCUMENT))
def test_a_program_answers_what_it_declares(instance: Instance, name: str) -> None:
    send_declared(instance.port, DOCUMENT, name)


def test_the_production_service_answers_what_it_declares(production: Instance) -> None:
    send_declared(production.port, DOCUMENT, "embedding", "")
