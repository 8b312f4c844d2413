"""The same questions as RAG's, at the sizes of the RayService."""

from d002.rag.traffic import ASKS

__all__ = ["ASKS", "ENV", "ROUNDS", "TARGET"]

TARGET = "d002/rayservice/v1.yaml"
ENV = {"EAGLERAY_NUM_GPUS": "8"}
ROUNDS = 2
