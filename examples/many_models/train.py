"""Trains twelve classifiers, three for each data set that scikit-learn carries, one file each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

MODELS = Path(__file__).with_name("models")
DATA = {"cancer": load_breast_cancer, "digits": load_digits, "iris": load_iris, "wine": load_wine}
ALGORITHMS: dict[str, Any] = {
    "forest": lambda: RandomForestClassifier(n_estimators=30, random_state=0),
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
    "svm": lambda: make_pipeline(StandardScaler(), SVC()),
}
MODEL_IDS = [f"{data}-{algorithm}" for data in DATA for algorithm in ALGORITHMS]


def split(data: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training rows, test rows, training labels, test labels; the same split at every call."""
    found = DATA[data]()
    return train_test_split(found.data, found.target, test_size=0.3, random_state=0, stratify=found.target)


def train(directory: Path = MODELS) -> None:
    """Fits and stores all models, unless they are there already."""
    directory.mkdir(exist_ok=True)
    for model_id in MODEL_IDS:
        path = directory / f"{model_id}.joblib"
        if not path.exists():
            data, _, algorithm = model_id.partition("-")
            rows, _, labels, _ = split(data)
            joblib.dump(ALGORITHMS[algorithm]().fit(rows, labels), path)


if __name__ == "__main__":
    train()
    print(f"{len(MODEL_IDS)} models in {MODELS}")
