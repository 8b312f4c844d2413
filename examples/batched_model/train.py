"""Trains a classifier of handwritten digits on the data that scikit-learn carries (1,797 images of 8 x 8 pixels)."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

MODEL = Path(__file__).with_name("model.joblib")


def split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images, test images, training labels, test labels; the same split at every call."""
    digits = load_digits()
    return train_test_split(digits.data, digits.target, test_size=0.3, random_state=0, stratify=digits.target)


def train(path: Path = MODEL) -> float:
    """Fits the model on the training part, stores it, and returns its accuracy on that part."""
    images, _, labels, _ = split()
    model = SVC(gamma=0.256, C=10.0).fit(images / 16, labels)
    joblib.dump(model, path)
    return float(model.score(images / 16, labels))


if __name__ == "__main__":
    print(f"accuracy on the training part: {train():.4f}")
