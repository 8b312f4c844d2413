"""The programs of document 000 as users run them, on models trained here, over HTTP."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.examples.modules import load_module
from tests.examples.seed_programs import SEEDS, document_served, names, send_declared
from tests.fault.instance import Instance

DOCUMENT = "d000"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All model files of the document, trained once."""
    train = load_module(SEEDS / "d000" / "train.py", "d000_train")
    folder = tmp_path_factory.mktemp("models")
    for name in train.RECIPES:
        train.make(name, folder)
    return folder


@pytest.fixture(scope="module")
def instance(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with document_served(
        DOCUMENT, tmp_path_factory.mktemp(DOCUMENT), EAGLERAY_NUM_GPUS="3", D000_MODELS=str(models)
    ) as running:
        yield running


@pytest.mark.parametrize("name", names(DOCUMENT))
def test_a_program_answers_what_it_declares(instance: Instance, name: str) -> None:
    send_declared(instance.port, DOCUMENT, name)


RECOGNISING = """
import sys
without_torch = sys.argv[1] == "numpy"
if without_torch:
    sys.modules["torch"] = None
import numpy as np
from d000.digits import UNSEEN
from d000.gpu_model.network import NumpyNetwork, load
for file in sys.argv[2:]:
    chosen = load(file)
    assert (chosen.device == "numpy") == without_torch, chosen.device
    by_numpy = NumpyNetwork({name: array.astype(np.float32) for name, array in np.load(file).items()})
    for image, digit in UNSEEN:
        found = chosen.probabilities(np.array(image) / 16)
        assert found.argmax() == digit
        np.testing.assert_allclose(found, by_numpy.probabilities(np.array(image) / 16), atol=1e-4)
"""
NEEDS_TORCH = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="PyTorch is not installed: `make test` does it where pip finds a build for CPUs",
)


@pytest.mark.parametrize("library", ["numpy", pytest.param("torch", marks=NEEDS_TORCH)])
def test_the_network_answers_the_same_with_pytorch_and_without(models: Path, library: str) -> None:
    files = [str(models / name) for name in ("digits_small.npz", "digits_large.npz")]
    subprocess.run(
        [sys.executable, "-c", RECOGNISING, library, *files],
        cwd=SEEDS,
        env=os.environ | {"PYTHONPATH": str(SEEDS)},
        check=True,
        timeout=120,
    )
