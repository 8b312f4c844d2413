"""examples/many_models as it stands: real models, real accuracy, each loaded where it is asked for."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.examples.modules import load_module
from tests.fault.instance import serving

EXAMPLE = Path(__file__).parents[2] / "examples" / "many_models"
train: Any = load_module(EXAMPLE / "train.py", "many_models_train")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    models = tmp_path_factory.mktemp("models")
    train.train(models)
    with serving("app:app", folder="examples/many_models", env={"MANY_MODELS": str(models)}) as instance:
        yield instance.port


def ask(port: int, model_id: str, rows: Any) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/",
        data=json.dumps(rows).encode(),
        headers={"serve_multiplexed_model_id": model_id},
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        found: dict[str, Any] = json.load(reply)
        return found


def test_every_model_answers_for_its_own_data(port: int) -> None:
    for model_id in train.MODEL_IDS:
        _, rows, _, labels = train.split(model_id.partition("-")[0])
        found = np.array(ask(port, model_id, rows.tolist())["labels"])
        assert (found == labels).mean() > 0.9, model_id


def test_models_that_fit_are_loaded_once_and_stay_where_they_are(port: int) -> None:
    chosen = ["iris-svm", "iris-forest", "wine-svm", "wine-forest"]
    rows = {model_id: train.split(model_id.partition("-")[0])[1][:2].tolist() for model_id in chosen}
    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(lambda model_id: ask(port, model_id, rows[model_id]), chosen * 2))
        where = {model_id: answer["replica"] for model_id, answer in zip(chosen, first, strict=False)}
        loads = {answer["replica"]: answer["loads"] for answer in (ask(port, m, rows[m]) for m in chosen)}
        answers = list(
            pool.map(lambda model_id: (model_id, ask(port, model_id, rows[model_id])), chosen * 20)
        )
    assert all(answer["replica"] == where[model_id] for model_id, answer in answers)
    assert all(answer["loads"] == loads[answer["replica"]] for _, answer in answers)


def test_a_model_that_is_not_there_fails_its_own_request(port: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(port, "iris-oracle", [[1, 2, 3, 4]])
    with caught.value as error:
        assert error.code == 500
    assert ask(port, "iris-svm", [[5.1, 3.5, 1.4, 0.2]])["labels"] == [0]
