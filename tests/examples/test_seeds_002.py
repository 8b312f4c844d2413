"""The programs of documents 002 and 003 as users run them, on real models, over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.examples.seed_programs import declared, document_served, names, send_declared
from tests.fault.instance import Instance
from tests.waiting import wait_until

DOCUMENT = "d002"
MAX_REPLICAS = 3
QUICK = {  # the program's own delays are minutes
    "min_replicas": 1,
    "max_replicas": MAX_REPLICAS,
    "target_ongoing_requests": 5,
    "upscale_delay_s": 0.2,
    "downscale_delay_s": 0.5,
    "look_back_period_s": 1.0,
    "metrics_interval_s": 0.1,
}


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    folder = tmp_path_factory.mktemp(DOCUMENT)
    quick = {"autoscaled": [{"name": "AutoscaledModel", "autoscaling_config": QUICK}]}
    with document_served(DOCUMENT, folder, quick, EAGLERAY_NUM_GPUS="16") as running:
        yield running


def each(port: int, name: str, asks: list[Any], connections: int = 8) -> list[Any]:
    """The values of the answers, in order; several connections send at once, and every answer is right."""

    def send(part: int) -> list[tuple[int, Any]]:
        found = []
        with declared.Client(port, f"/{name}") as client:
            for index in range(part, len(asks), connections):
                answer = client.send(asks[index])
                assert asks[index].holds_for(answer), f"{asks[index]} -> {answer}"
                found.append((index, answer.value))
        return found

    with ThreadPoolExecutor(connections) as pool:
        answered = [one for part in pool.map(send, range(connections)) for one in part]
    return [value for _, value in sorted(answered, key=lambda one: one[0])]


@pytest.mark.parametrize("name", names(DOCUMENT))
def test_a_program_answers_what_it_declares(instance: Instance, name: str) -> None:
    send_declared(instance.port, DOCUMENT, name)


def test_requests_that_wait_become_batches_and_a_bad_one_fails_alone(instance: Instance) -> None:
    from d002.batch_model.traffic import IMAGES

    asks = [declared.Ask(json=image) for image, _ in IMAGES]
    asks[::10] = [declared.Ask(json=[1.0], status=422)] * len(asks[::10])
    found = [
        (value, digit)
        for value, (_, digit) in zip(each(instance.port, "batch_model", asks, 32), IMAGES, strict=True)
        if isinstance(value, dict)
    ]
    assert len(found) == len(IMAGES) * 9 // 10
    assert sum(value["digit"] == digit for value, digit in found) / len(found) > 0.85
    assert 1 < max(value["batch"] for value, _ in found) <= 32


def test_replicas_come_with_the_load_and_go_with_it(instance: Instance) -> None:
    ask = declared.programs(f"{DOCUMENT}/autoscaled")[0].asks[0]
    enough = threading.Event()

    def load() -> set[str]:
        seen = set()
        with declared.Client(instance.port, "/autoscaled") as client:
            while not enough.is_set():
                answer = client.send(ask)
                assert ask.holds_for(answer), answer
                seen.add(answer.value["replica"])
                if len(seen) == MAX_REPLICAS:
                    enough.set()
        return seen

    watchdog = threading.Timer(120, enough.set)
    watchdog.start()
    try:
        with ThreadPoolExecutor(24) as pool:
            seen = set().union(*pool.map(lambda _: load(), range(24)))
    finally:
        watchdog.cancel()
    assert len(seen) == MAX_REPLICAS
    wait_until(
        lambda: len({value["replica"] for value in each(instance.port, "autoscaled", [ask] * 10, 1)}) == 1,
        what="one replica without load",
    )


def lora() -> tuple[Callable[[str, int], Any], list[str]]:
    from d002.multi_lora.model import ADAPTERS
    from d002.multi_lora.traffic import ask

    return ask, ADAPTERS


def test_adapters_read_what_the_base_cannot(instance: Instance) -> None:
    ask, adapters = lora()
    asks = [ask(adapter, index) for adapter in adapters[:3] for index in range(40)]
    anyhow = [declared.Ask(json=one.json, headers=one.headers) for one in asks]
    right = [
        one.right(value) for one, value in zip(asks, each(instance.port, "multi_lora", anyhow), strict=True)
    ]
    assert sum(right) / len(right) > 0.8


def test_adapters_that_fit_stay_where_they_are(instance: Instance) -> None:
    ask, adapters = lora()
    chosen = adapters[:4]
    first = each(instance.port, "multi_lora", [ask(one, 0) for one in chosen], 1)
    where = {one: value["replica"] for one, value in zip(chosen, first, strict=True)}
    again = [one for one in chosen for _ in range(20)]
    found = each(instance.port, "multi_lora", [ask(one, 0) for one in again])
    assert [value["replica"] for value in found] == [where[one] for one in again]
    loads = {value["replica"]: value["loads"] for value in first}
    assert all(value["loads"] == loads[value["replica"]] for value in found)


def test_the_adapter_used_longest_ago_makes_room(instance: Instance) -> None:
    ask, adapters = lora()

    def loads() -> int:
        """Of all replicas, after each adapter was asked once more."""
        found = each(instance.port, "multi_lora", [ask(one, 0) for one in adapters], 1)
        latest = {value["replica"]: value["loads"] for value in found}
        return sum(latest.values())

    before = loads()
    assert loads() > before  # twelve do not fit into two replicas with four places each


def test_a_leaky_replica_is_replaced_and_no_request_is_lost(instance: Instance) -> None:
    one = declared.programs(f"{DOCUMENT}/leaky")[0].asks[0]
    seen: set[str] = set()

    def more() -> bool:
        seen.update(value["replica"] for value in each(instance.port, "leaky", [one] * 100))
        return len(seen) >= 8

    wait_until(more, what="four replicas and four successors")
