"""The systems beside each other, by the names that results and `--systems` use."""

from __future__ import annotations

from bench.systems.base import System
from bench.systems.eagleray import UNWATCHED, Eagleray
from bench.systems.grpc_aio import GrpcAio
from bench.systems.mosec import Mosec
from bench.systems.ray import RayDefault, RayTuned
from bench.systems.uvicorn import Uvicorn, UvicornFastAPI

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        Uvicorn(),
        UvicornFastAPI(),
        GrpcAio(),
        Mosec(),
        RayDefault(),
        RayTuned(),
        Eagleray(),
        Eagleray(name="eagleray-unwatched", title="unwatched", settings=UNWATCHED),
    )
}
