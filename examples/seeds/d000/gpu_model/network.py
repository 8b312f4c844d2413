"""A small network of digits: on a GPU or a CPU by PyTorch, and by NumPy where PyTorch is not installed.

Both compute the same from the same file of weights, in 32 bits.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

try:
    import torch
except ImportError:  # PyPI's torch brings gigabytes of CUDA, which not everybody wants for an example
    torch = None


class Network(Protocol):
    """Weights on a device; `device` is its name: `cuda`, `cpu`, or `numpy` for a CPU without PyTorch."""

    device: str

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """Of the ten digits, for 64 grey values from 0 to 1."""

    def memory_bytes(self) -> int:
        """GPU memory in use; 0 without a GPU."""


def load(path: str) -> Network:
    """The network of a `.npz` file, on the best device there is."""
    weights = {name: array.astype(np.float32) for name, array in np.load(path).items()}
    return NumpyNetwork(weights) if torch is None else TorchNetwork(weights)


class TorchNetwork:
    """Layers of PyTorch, on the GPU that this process was given, else on the CPU."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        shapes = [weights["first"].shape, weights["last"].shape]
        first, last = (torch.nn.Linear(*shape) for shape in shapes)
        with torch.no_grad():
            for layer, name in ((first, "first"), (last, "last")):
                layer.weight.copy_(torch.from_numpy(weights[name].T.copy()))
                layer.bias.copy_(torch.from_numpy(weights[f"{name}_bias"]))
        self._model = torch.nn.Sequential(first, torch.nn.ReLU(), last).to(self.device).eval()

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(image.astype(np.float32)).unsqueeze(0).to(self.device)
        with torch.no_grad():
            found: np.ndarray = torch.softmax(self._model(tensor), dim=1)[0].cpu().numpy()
        return found

    def memory_bytes(self) -> int:
        return int(torch.cuda.memory_allocated(self.device)) if self.device == "cuda" else 0


class NumpyNetwork:
    """The same layers as products of matrices."""

    device = "numpy"

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self._weights = weights

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        weights = self._weights
        hidden = np.maximum(image.astype(np.float32) @ weights["first"] + weights["first_bias"], 0)
        scores = hidden @ weights["last"] + weights["last_bias"]
        found: np.ndarray = np.exp(scores - scores.max())
        return found / found.sum()

    def memory_bytes(self) -> int:
        return 0
