"""The services that the script leaves running with --stay, each below the route of its name."""

from typing import Any

from d000.digits import UNSEEN as DIGITS
from d000.flowers import UNSEEN as FLOWERS
from program import Ask

ENV = {"EAGLERAY_NUM_GPUS": "1"}
TARGET = "d000.deploy_and_manage.app"

DOUBTFUL = [([6.1, 2.6, 5.6, 1.4], 2)]


def _asks(service: str, member: str, rows: list[tuple[list[float], int]], **more: Any) -> list[Ask]:
    def is_right(expected: int) -> Any:
        wanted = {"prediction": expected, **more}
        return lambda answer: {name: answer.get(name) for name in wanted} == wanted

    return [Ask(f"/{service}", json={member: row}, right=is_right(expected)) for row, expected in rows]


ASKS = [
    *_asks("simple_service", "features", FLOWERS),
    *_asks("simple_service", "features", FLOWERS[:1], certain=True),
    *_asks("simple_service", "features", DOUBTFUL, certain=False),
    *_asks("gpu_service", "image", DIGITS),
    *_asks("batch_service", "input", DIGITS),
    *_asks("monitored_service", "features", FLOWERS[:3]),
    *_asks("production_service", "data", FLOWERS[:3]),
    *_asks("ml_pipeline", "raw_data", FLOWERS, pipeline_version="1.0"),
    *_asks("model_v2", "features", FLOWERS[:3], model_version="2.0"),
    *_asks("traffic_splitter", "features", FLOWERS, model_version="v1"),
    Ask("/simple_service", text="{", headers={"content-type": "application/json"}, status=400),
    Ask("/nowhere", json={}, status=404),
]
