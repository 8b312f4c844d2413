"""Digits as each adapter has learned to see them."""

from typing import Any

from d002.multi_lora.model import ADAPTERS, HELD_OUT, changed, data
from program import Ask

_images, _digits = (part[-HELD_OUT:] for part in data())


def ask(adapter: str, index: int) -> Ask:
    """A held-out image for this adapter. Its answer must have the image's digit."""
    digit = int(_digits[index])
    pixels: Any = changed(adapter, _images[index : index + 1]).ravel().tolist()
    names = {"X-LoRA-Id": adapter, "serve_multiplexed_model_id": adapter}
    return Ask(json=pixels, headers=names, right=lambda found: found["digit"] == digit)


ASKS = [
    *(ask(adapter, index) for adapter in ADAPTERS for index in (0, 1, 3)),
    Ask(json=[0] * 64, headers={"X-LoRA-Id": "sideways"}, status=404),
    Ask(json=[0] * 64, status=404),
]
