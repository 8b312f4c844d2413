"""examples/batched_model as it stands: real accuracy over HTTP, answers that share batches, a bad image among good."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.examples.modules import load_module
from tests.fault.instance import serving

EXAMPLE = Path(__file__).parents[2] / "examples" / "batched_model"
CONNECTIONS = 32


train: Any = load_module(EXAMPLE / "train.py", "batched_model_train")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    model = tmp_path_factory.mktemp("model") / "model.joblib"
    train.train(model)
    with serving("app:app", folder="examples/batched_model", env={"BATCHED_MODEL": str(model)}) as instance:
        yield instance.port


def ask(port: int, images: list[list[float]]) -> list[tuple[int, bytes]]:
    """Status and body for each image, one after another over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    answers = []
    for pixels in images:
        connection.request("POST", "/", json.dumps(pixels), {"content-type": "application/json"})
        reply = connection.getresponse()
        answers.append((reply.status, reply.read()))
    connection.close()
    return answers


def test_the_whole_test_set_is_classified_in_batches(port: int) -> None:
    _, images, _, labels = train.split()
    parts = [images[start::CONNECTIONS].tolist() for start in range(CONNECTIONS)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        answers = list(pool.map(lambda part: ask(port, part), parts))
    found = np.zeros_like(labels)
    batches = []
    for start, part in enumerate(answers):
        decoded = [json.loads(body) for _, body in part]
        found[start::CONNECTIONS] = [answer["digit"] for answer in decoded]
        batches += [answer["batch"] for answer in decoded]
    assert (found == labels).mean() > 0.97
    # 32 callers wait at a time, more than the default limit of 5 lets into a replica without batches.
    assert max(batches) > 5


def test_a_bad_image_fails_alone(port: int) -> None:
    _, images, _, labels = train.split()
    asked = [[images[0].tolist()], [[1.0, 2.0]], [images[1].tolist()]] * 4
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = [answer for [answer] in pool.map(lambda part: ask(port, part), asked)]
    assert [status for status, _ in answers] == [200, 422, 200] * 4
    assert json.loads(answers[0][1])["digit"] == labels[0]
    assert answers[1][1] == b"An image has 64 grey values."
