"""The scenarios, in the order in which they run."""

from __future__ import annotations

from bench.scenarios.arrays import Arrays
from bench.scenarios.base import Scenario
from bench.scenarios.batch import Batch
from bench.scenarios.batch_latency import BatchLatency
from bench.scenarios.chain import Chain
from bench.scenarios.cold import Cold
from bench.scenarios.grpc import Grpc
from bench.scenarios.handle import Handle
from bench.scenarios.json import Json, Typed
from bench.scenarios.multiplex import Multiplex
from bench.scenarios.noop import Noop
from bench.scenarios.observability import Observability
from bench.scenarios.overload import Overload
from bench.scenarios.payload import Payload
from bench.scenarios.stream import Stream

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Noop(),
        Json(),
        Typed(),
        Chain(),
        Handle(),
        Arrays(),
        Grpc(),
        Multiplex(),
        Payload(),
        Stream(),
        Batch(),
        BatchLatency(),
        Overload(),
        Observability(),
        Cold(),
    )
}
