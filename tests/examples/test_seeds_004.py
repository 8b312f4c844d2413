"""The programs of document 004 as users run them, on real models, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.examples.seed_programs import declared, document_served, names, send_declared
from tests.fault.instance import Instance

from d004.conditional.traffic import PERSONAL, POPULAR, REFUSED
from d004.nlp_summary import traffic as nlp

DOCUMENT = "d004"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with document_served(DOCUMENT, tmp_path_factory.mktemp(DOCUMENT)) as running:
        yield running


@pytest.mark.parametrize("name", names(DOCUMENT))
def test_a_program_answers_what_it_declares(instance: Instance, name: str) -> None:
    send_declared(instance.port, DOCUMENT, name)


def test_only_the_chosen_model_is_called_and_none_for_a_bad_profile(instance: Instance) -> None:
    with declared.Client(instance.port, "/conditional") as client:
        before = client.send(declared.Ask()).value
        for ask in PERSONAL + POPULAR + REFUSED:
            client.send(ask)
        after = client.send(declared.Ask()).value
    assert after["personal"] - before["personal"] == len(PERSONAL)
    assert after["popular"] - before["popular"] == len(POPULAR)


def test_sentiments_are_found_in_batches_and_nothing_more_of_negative_articles(instance: Instance) -> None:
    def ask_all(_: int) -> None:
        with declared.Client(instance.port, "/nlp_summary") as client:
            assert all(ask.holds_for(client.send(ask)) for ask in nlp.REFUSED)

    with declared.Client(instance.port, "/nlp_summary") as client:
        before = client.send(declared.Ask("/work")).value
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask_all, range(8)))
        after = client.send(declared.Ask("/work")).value
        assert after["entity_calls"] == before["entity_calls"]
        # While one is answered, the other seven callers wait for the next batch.
        assert after["largest_sentiment_batch"] > 1
        assert client.send(nlp.SUMMARIZED[0]).status == 200
        assert client.send(declared.Ask("/work")).value["entity_calls"] == after["entity_calls"] + 1
