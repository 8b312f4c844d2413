from __future__ import annotations

import pytest

from eagleray.engine.local import local_capacity
from eagleray.wire.control import NodeConfig


def test_config_overrides_what_is_found() -> None:
    capacity = local_capacity(NodeConfig(num_gpus=2, memory_bytes=1000, resources={"tpu": 4}))
    assert (capacity.gpu_ids, capacity.memory_bytes, capacity.resources) == (("0", "1"), 1000, {"tpu": 4})
    assert capacity.num_cpus >= 1


@pytest.mark.parametrize(
    ("visible", "num_gpus", "expected"),
    [
        ("", None, ()),
        ("-1", None, ()),
        ("2,5", None, ("2", "5")),
        ("2,5", 1, ("2",)),
        ("GPU-1f2e, GPU-77ab", None, ("GPU-1f2e", "GPU-77ab")),
        ("", 3, ("0", "1", "2")),
    ],
)
def test_only_visible_gpus_are_given_away(
    monkeypatch: pytest.MonkeyPatch, visible: str, num_gpus: int | None, expected: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local_capacity(NodeConfig(num_gpus=num_gpus)).gpu_ids == expected


def test_memory_is_that_of_the_machine() -> None:
    assert local_capacity(NodeConfig()).memory_bytes > 1 << 26
