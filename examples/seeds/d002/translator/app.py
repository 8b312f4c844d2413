"""A translator from English to French in three replicas with half a GPU each.

cd examples/seeds && EAGLERAY_NUM_GPUS=2 eagleray run d002.translator.app:app --route-prefix /translate
curl -d 'the black cat sees a small house' localhost:8000/translate
"""

from __future__ import annotations

from d002.translator.corpus import pairs
from d002.translator.model import PhraseTranslator
from eagleray import serve

SENTENCES = 800


@serve.deployment(num_replicas=3, ray_actor_options={"num_gpus": 0.5})
class Translator:
    """Learns once, when its replica starts; each call translates."""

    def __init__(self) -> None:
        self.model = PhraseTranslator(pairs(SENTENCES, seed=1))

    def __call__(self, text: str) -> str:
        return self.model.translate(text)


app = Translator.bind()
