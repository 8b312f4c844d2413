"""Pictures of which the place and the digit are known, and some that are none."""

from d004.pipeline.scenes import SIDE, scenes
from program import Ask


def reads(digit: int, top: int, left: int):
    """Right is the digit, in a box that is at most a pixel off."""

    def right(answer: dict) -> bool:
        found_left, found_top, right_edge, bottom = answer["box"]
        near = abs(found_left - left) <= 1 and abs(found_top - top) <= 1
        return (
            near
            and (right_edge, bottom) == (found_left + SIDE, found_top + SIDE)
            and answer["digit"] == digit
        )

    return right


ASKS = [
    *(
        Ask(json=picture.tolist(), right=reads(digit, *corner))
        for picture, corner, digit in scenes(40, seed=2)
    ),
    Ask(json=[[0.0] * 32] * 4, status=422),
    Ask(json=[[1, 2], [3]], status=422),
    Ask(json={"picture": "none"}, status=422),
    Ask(json=[[10**400] * 32] * 24, status=422),
    Ask(json=[[float("nan")] * 32] * 24, status=422),
    Ask(text="no picture", status=422),
]
