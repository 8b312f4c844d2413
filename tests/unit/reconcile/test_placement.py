"""Who gets which GPUs, memory and custom resources, and what is said when there is not enough."""

from __future__ import annotations

import pytest

from eagleray.reconcile.placement import (
    UNIT,
    Allocation,
    Demand,
    Shortage,
    Supply,
    cpu_warning,
    place,
    visible_devices,
)

TWO = Supply(num_cpus=2, memory=1000, gpu_ids=("2", "5"), custom={"accel": UNIT})
HALF = UNIT // 2


def test_whole_gpus_are_taken_in_order() -> None:
    assert place(TWO, [], Demand(gpus=UNIT)) == Allocation(gpus={"2": UNIT})
    assert place(TWO, [Allocation(gpus={"2": UNIT})], Demand(gpus=UNIT)) == Allocation(gpus={"5": UNIT})
    assert place(TWO, [], Demand(gpus=2 * UNIT)) == Allocation(gpus={"2": UNIT, "5": UNIT})


def test_fractions_fill_the_fullest_gpu_that_has_room() -> None:
    held = [Allocation(gpus={"5": HALF})]
    assert place(TWO, held, Demand(gpus=HALF)) == Allocation(gpus={"5": HALF})
    assert place(TWO, held, Demand(gpus=HALF + 1)) == Allocation(gpus={"2": HALF + 1})


@pytest.mark.parametrize(
    ("held", "demand", "text"),
    [
        ([Allocation(gpus={"2": UNIT, "5": UNIT})], Demand(gpus=UNIT), "needs num_gpus=1, free 0 of 2"),
        (
            [Allocation(gpus={"2": HALF}), Allocation(gpus={"5": HALF})],
            Demand(gpus=UNIT),
            "needs num_gpus=1, free 1 of 2 (no single GPU has that much free)",
        ),
        ([Allocation(memory=600)], Demand(memory=500), "needs memory=500, free 400 of 1000"),
        ([], Demand(custom={"tpu": UNIT}), "needs resources['tpu']=1, free 0 of 0"),
        (
            [],
            Demand(gpus=3 * UNIT, memory=2000),
            "needs num_gpus=3, free 2 of 2; needs memory=2000, free 1000 of 1000",
        ),
    ],
)
def test_shortage_names_what_is_missing(held: list[Allocation], demand: Demand, text: str) -> None:
    assert place(TWO, held, demand) == Shortage(text)


def test_cpus_never_refuse_but_are_warned_about_once_they_are_explicit() -> None:
    assert place(TWO, [], Demand(cpus=64)) == Allocation()
    assert cpu_warning(TWO, [(Demand(cpus=1), 50)]) == ""
    assert "num_cpus=6, this machine has 2" in cpu_warning(TWO, [(Demand(cpus=3, explicit_cpus=True), 2)])


def test_replicas_without_gpus_see_none_where_there_are_some() -> None:
    assert visible_devices(TWO, Allocation()) == ""
    assert visible_devices(TWO, Allocation(gpus={"5": HALF})) == "5"
    assert visible_devices(Supply(), Allocation()) is None
