"""A model whose memory grows with every request, and that has its replica replaced before it hurts.

cd examples/seeds && eagleray run d002.leaky.app:app
curl -d 'some text' localhost:8000
"""

from __future__ import annotations

from typing import Any

from eagleray import serve

LIMIT = 50


@serve.deployment(num_replicas=4, graceful_shutdown_timeout_s=60, health_check_period_s=30)
class LeakyModel:
    """Counts words, and never forgets a text. After LIMIT requests its replica asks for a successor."""

    def __init__(self) -> None:
        self.leak: list[bytearray] = []

    def __call__(self, text: str) -> dict[str, Any]:
        self.leak.append(bytearray(10_000))
        context = serve.get_replica_context()
        if len(self.leak) == LIMIT:
            context.exit()
        return {"words": len(text.split()), "replica": context.replica_tag, "taken": len(self.leak)}


app = LeakyModel.bind()
