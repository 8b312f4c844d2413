"""What a controller remembers: connects history and events to what they listen to, and to who reads them."""

from __future__ import annotations

from eagleray.admin.records import Reading
from eagleray.base.clock import Clock, wall_time_s
from eagleray.controller.chronicle import Chronicle
from eagleray.controller.controller import Controller
from eagleray.controller.declared import Declarations
from eagleray.controller.gathering import Gathering
from eagleray.controller.occurrences import Occurrences
from eagleray.controller.overview import Overview
from eagleray.controller.recall import Recall


class Memory:
    """`settle` is called in each pass, `close` ends its only timer."""

    def __init__(
        self, gathering: Gathering, clock: Clock, controller: Controller, declarations: Declarations
    ) -> None:
        self._history = gathering.remember(clock, controller)
        chronicle = Chronicle(wall_time_s)
        occurrences = Occurrences(chronicle, controller.world)
        controller.on_event.append(occurrences.on_event)
        declarations.on_applied = occurrences.config_applied
        self.settle = occurrences.settle
        world, telemetry = controller.world, gathering.telemetry
        overview = Overview(world, telemetry, self._history, chronicle, clock, wall_time_s)
        self.reading = Reading(Recall(self._history, chronicle, overview.read))

    def close(self) -> None:
        """Idempotent."""
        if self._history is not None:
            self._history.close()
