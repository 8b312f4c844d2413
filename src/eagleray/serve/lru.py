"""Which models have a place in a replica, which one goes next and who must wait: least recently used goes first.

Loading and unloading models occupy a place too, so a replica never holds more than its capacity, not for a moment. A
model is pinned while somebody who got it still runs. Pure: whoever owns it performs what `plan` says and reports back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

LOADING, LOADED, UNLOADING = range(3)

Holder = Hashable
"""Whoever gets models, a request as a rule; it keeps them until `release`."""


@dataclass(frozen=True)
class Load:
    """Load this model now; then report `loaded` or `failed`."""

    model_id: str


@dataclass(frozen=True)
class Unload:
    """Unload this model now; then report `unloaded`."""

    model_id: str


class Places:
    """`capacity` models at once; -1 for as many as are asked for."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._models: OrderedDict[str, int] = OrderedDict()
        """Model -> state, least recently used first."""
        self._waiting: dict[str, list[Holder]] = {}
        """Model -> who waits for it, in the order in which models were asked for."""
        self._pins: dict[str, set[Holder]] = {}
        self._held: dict[Holder, set[str]] = {}

    # ---- what there is ---------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Places that are taken."""
        return len(self._models)

    @property
    def present(self) -> list[str]:
        """Models that are loaded or loading, least recently used first."""
        return [model_id for model_id, state in self._models.items() if state != UNLOADING]

    @property
    def free(self) -> int:
        """Models that could be loaded without unloading one; -1 for any number."""
        return -1 if self.capacity < 0 else max(0, self.capacity - len(self._models))

    def state(self, model_id: str) -> int | None:
        return self._models.get(model_id)

    def is_coming(self, model_id: str) -> bool:
        """Whether it is loading, or somebody waits for it."""
        return model_id in self._waiting or self._models.get(model_id) == LOADING

    def is_pinned(self, model_id: str) -> bool:
        return bool(self._pins.get(model_id))

    # ---- whoever wants a model -------------------------------------------------------------------------------

    def get(self, model_id: str, holder: Holder) -> bool:
        """True: it is there, and `holder` has it. False: `holder` waits for it.

        It waits until `loaded`, `failed` or `give_up`.
        """
        if self._models.get(model_id) == LOADED:
            self._models.move_to_end(model_id)
            self._pin(model_id, holder)
            return True
        self._waiting.setdefault(model_id, []).append(holder)
        return False

    def give_up(self, model_id: str, holder: Holder) -> None:
        """`holder` waits no more. A load that is under way goes on: the next request will want it."""
        waiting = self._waiting.get(model_id)
        if waiting is not None and holder in waiting:
            waiting.remove(holder)
            if not waiting:
                del self._waiting[model_id]

    def release(self, holder: Holder) -> None:
        """`holder` has ended: what it got may go."""
        for model_id in self._held.pop(holder, ()):
            self._pins[model_id].discard(holder)

    def _pin(self, model_id: str, holder: Holder) -> None:
        self._pins.setdefault(model_id, set()).add(holder)
        self._held.setdefault(holder, set()).add(model_id)

    # ---- what is to be done ----------------------------------------------------------------------------------

    def plan(self) -> list[Load | Unload]:
        """What can be begun now; it counts as begun. To be asked after every change."""
        steps: list[Load | Unload] = []
        missing = 0
        for model_id in self._waiting:
            state = self._models.get(model_id)
            if state == LOADING:
                continue
            if state is None and self._has_place():
                self._models[model_id] = LOADING
                steps.append(Load(model_id))
            else:
                missing += 1  # also one that is being unloaded: it comes back when that has ended
        missing -= sum(state == UNLOADING for state in self._models.values())
        while missing > 0 and (victim := self._victim()) is not None:
            self._models[victim] = UNLOADING
            steps.append(Unload(victim))
            missing -= 1
        return steps

    def _has_place(self) -> bool:
        return self.capacity < 0 or len(self._models) < self.capacity

    def _victim(self) -> str | None:
        """The least recently used model that nobody has.

        When all places are taken by models whose holders wait for yet another one, nothing would ever move: then the
        least recently used of those goes.
        """
        for model_id, state in self._models.items():
            if state == LOADED and not self._pins.get(model_id):
                return model_id
        waiting = {holder for holders in self._waiting.values() for holder in holders}
        for model_id, state in self._models.items():
            if state != LOADED or not self._pins[model_id] <= waiting:
                return None
        return next(iter(self._models), None)

    # ---- what has come of it ---------------------------------------------------------------------------------

    def loaded(self, model_id: str) -> None:
        """All who waited for it have it now."""
        self._models[model_id] = LOADED
        self._models.move_to_end(model_id)
        for holder in self._waiting.pop(model_id, ()):
            self._pin(model_id, holder)

    def failed(self, model_id: str) -> None:
        """It could not be loaded; nobody waits for it any more."""
        del self._models[model_id]
        self._waiting.pop(model_id, None)

    def unloaded(self, model_id: str) -> None:
        """Its place is free."""
        del self._models[model_id]
        for holder in self._pins.pop(model_id, ()):
            self._held[holder].discard(model_id)
            if not self._held[holder]:
                del self._held[holder]

    def evacuate(self) -> list[Unload]:
        """The end: every loaded model is to be unloaded, pinned or not."""
        leaving = [model_id for model_id, state in self._models.items() if state == LOADED]
        for model_id in leaving:
            self._models[model_id] = UNLOADING
        return [Unload(model_id) for model_id in leaving]
