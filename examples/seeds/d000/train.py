"""Trains the model files of this document on data that scikit-learn carries: flowers, patients, handwritten digits.

python -m d000.train        (in examples/seeds; a few seconds)

A file appears complete or not at all, since several programs may want it at the same time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from d000.model_files import FOLDER

_LOADERS = {"iris": load_iris, "diabetes": load_diabetes, "digits": load_digits}


@cache
def split(data: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training rows, test rows, training targets, test targets of `iris`, `diabetes` or `digits`; always the same."""
    rows, targets = _LOADERS[data](return_X_y=True)
    return tuple(train_test_split(rows, targets, test_size=0.3, random_state=0))


def standardised(rows: np.ndarray) -> np.ndarray:
    """Each row with mean 0 and deviation 1, as the preprocessor of the pipeline makes it."""
    return (rows - rows.mean(axis=1, keepdims=True)) / rows.std(axis=1, keepdims=True)


def _fitted(model: Any, data: str, columns: int | None = None) -> Any:
    rows, _, targets, _ = split(data)
    return model.fit(rows[:, :columns], targets)


def _logistic() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))


def _forest() -> Any:
    return RandomForestClassifier(25, random_state=0)


def _of_standardised() -> Any:
    rows, _, targets, _ = split("iris")
    return SVC(C=10.0).fit(standardised(rows), targets)


def network(hidden: int) -> dict[str, np.ndarray]:
    """Weights of a network 64 -> `hidden` -> 10 with a ReLU between, trained on images with values from 0 to 1."""
    rows, _, targets, _ = split("digits")
    fitted = MLPClassifier(
        (hidden,),
        alpha=0.01,
        learning_rate_init=0.01,
        tol=0.002,
        max_iter=500,
        n_iter_no_change=3,
        random_state=0,
    ).fit(rows / 16, targets)
    (first, last), (first_bias, last_bias) = fitted.coefs_, fitted.intercepts_
    return {"first": first, "first_bias": first_bias, "last": last, "last_bias": last_bias}


RECIPES: dict[str, Callable[[], Any]] = {
    "simple_model.pkl": lambda: _fitted(_logistic(), "iris"),
    "scaling_model.pkl": lambda: _fitted(_logistic(), "iris"),
    "scaling_model_2.pkl": lambda: _fitted(_forest(), "iris"),
    "batch_model.pkl": lambda: _fitted(SVC(gamma=0.001, C=10.0), "digits"),
    "ridge.pkl": lambda: _fitted(Ridge(0.1), "diabetes"),
    "forest.pkl": lambda: _fitted(RandomForestRegressor(25, random_state=0), "diabetes"),
    "neighbors.pkl": lambda: _fitted(KNeighborsRegressor(20), "diabetes"),
    "of_two_features.pkl": lambda: _fitted(Ridge(0.1), "diabetes", columns=2),
    "inference_model.pkl": _of_standardised,
    "model_v1.pkl": lambda: _fitted(_logistic(), "iris"),
    "model_v2.pkl": lambda: _fitted(_forest(), "iris"),
    "monitored_model.pkl": lambda: _fitted(_logistic(), "iris"),
    "production_model.pkl": lambda: _fitted(_logistic(), "iris"),
    "primary_model.pkl": lambda: _fitted(_logistic(), "iris"),
    "fallback_model.pkl": lambda: _fitted(DummyClassifier(strategy="most_frequent"), "iris"),
    "digits_small.npz": lambda: network(32),
    "digits_large.npz": lambda: network(128),
}


def make(name: str, folder: Path) -> Path:
    """Trains the model `name` of `RECIPES` and stores it in `folder`. KeyError for other names."""
    model = RECIPES[name]()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{name}-", delete=False) as file:
        if name.endswith(".npz"):
            np.savez(file, **model)
        else:
            joblib.dump(model, file)
    os.replace(file.name, folder / name)
    return folder / name


if __name__ == "__main__":
    for one in RECIPES:
        print(make(one, FOLDER))
