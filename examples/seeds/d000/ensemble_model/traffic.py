"""Patients of the diabetes data; rows that only one of the models knows; rows that none does."""

from typing import Any

from d000.flowers import refused
from program import Ask

# The last two of the training data's patients, and what became of them a year later.
PATIENTS = [
    [0.0381, 0.0507, 0.0617, 0.0219, -0.0442, -0.0348, -0.0434, -0.0026, 0.0199, -0.0176],
    [-0.0019, -0.0446, -0.0515, -0.0263, -0.0084, -0.0192, 0.0744, -0.0395, -0.0683, -0.0922],
]


def _of_ten_features(answer: Any) -> bool:
    high, low = answer["prediction"]
    return (
        150 < low + high < 450
        and high > low
        and answer["successful_models"] == ["ridge", "forest", "neighbors"]
        and sorted(answer["failed_models"]) == ["lost", "of_two_features"]
        and answer["ensemble_size"] == 3
    )


def _of_two_features(answer: Any) -> bool:
    return answer["successful_models"] == ["of_two_features"] and answer["ensemble_size"] == 1


ASKS = [
    Ask(json={"data": PATIENTS}, right=_of_ten_features),
    Ask(json={"data": [[0.0381, 0.0507]]}, right=_of_two_features),
    Ask(json={"data": [[1.0, 2.0, 3.0]]}, status=500),
    *refused("data"),
]
