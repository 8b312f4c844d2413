"""A replica's places for models: never over capacity, nothing pinned goes, everybody gets what they wait for."""

from __future__ import annotations

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from eagleray.serve.lru import LOADED, LOADING, UNLOADING, Load, Places, Unload

MODELS = st.sampled_from("abcde")


class PlacesMachine(RuleBasedStateMachine):
    """Holders ask one model at a time, as `await` makes them; loads and unloads end when hypothesis says so."""

    holders = Bundle("holders")

    def __init__(self) -> None:
        super().__init__()
        self.ids = itertools.count()
        self.loading: set[str] = set()
        self.unloading: set[str] = set()
        self.waits: dict[int, str] = {}
        self.has: dict[int, set[str]] = {}
        self.used: list[str] = []

    @initialize(capacity=st.sampled_from([1, 2, 3, -1]))
    def begin(self, capacity: int) -> None:
        self.places = Places(capacity)

    def perform(self) -> None:
        waiting = set(self.waits)
        for step in self.places.plan():
            if isinstance(step, Load):
                assert step.model_id not in self.loading | self.unloading, "a load is single-flight"
                self.loading.add(step.model_id)
            else:
                self.begin_unload(step, waiting)

    def begin_unload(self, step: Unload, waiting: set[int]) -> None:
        holders = {holder for holder, models in self.has.items() if step.model_id in models}
        assert holders <= waiting, "a model was unloaded under a request that runs"
        if not holders:
            free = [m for m in self.used if self.places.state(m) == LOADED and not self.places.is_pinned(m)]
            older = self.used[: self.used.index(step.model_id)]
            assert not set(older) & set(free), "the least recently used goes first"
        self.unloading.add(step.model_id)
        self.used.remove(step.model_id)
        for models in self.has.values():
            models.discard(step.model_id)

    def touch(self, model_id: str) -> None:
        if model_id in self.used:
            self.used.remove(model_id)
        self.used.append(model_id)

    @rule(target=holders)
    def arrive(self) -> int:
        holder = next(self.ids)
        self.has[holder] = set()
        return holder

    @rule(holder=holders, model_id=MODELS)
    def get(self, holder: int, model_id: str) -> None:
        if holder in self.waits or holder not in self.has:
            return
        if self.places.get(model_id, holder):
            assert self.places.state(model_id) == LOADED
            self.has[holder].add(model_id)
            self.touch(model_id)
        else:
            self.waits[holder] = model_id
        self.perform()

    @rule(holder=holders)
    def give_up(self, holder: int) -> None:
        if holder in self.waits:
            self.places.give_up(self.waits.pop(holder), holder)
            self.perform()

    @rule(holder=consumes(holders))
    def leave(self, holder: int) -> None:
        if holder in self.waits:
            self.places.give_up(self.waits.pop(holder), holder)
        del self.has[holder]
        self.places.release(holder)
        self.perform()

    @precondition(lambda self: self.loading)
    @rule(data=st.data(), succeeds=st.booleans())
    def end_load(self, data: st.DataObject, succeeds: bool) -> None:
        model_id = data.draw(st.sampled_from(sorted(self.loading)))
        self.loading.discard(model_id)
        waiting = [holder for holder, wanted in self.waits.items() if wanted == model_id]
        for holder in waiting:
            del self.waits[holder]
        if succeeds:
            self.places.loaded(model_id)
            self.touch(model_id)
            for holder in waiting:
                self.has[holder].add(model_id)
        else:
            self.places.failed(model_id)
        self.perform()

    @precondition(lambda self: self.unloading)
    @rule(data=st.data())
    def end_unload(self, data: st.DataObject) -> None:
        model_id = data.draw(st.sampled_from(sorted(self.unloading)))
        self.unloading.discard(model_id)
        self.places.unloaded(model_id)
        self.perform()

    @invariant()
    def within_capacity(self) -> None:
        if hasattr(self, "places"):
            assert self.places.capacity < 0 or len(self.places) <= self.places.capacity
            states = {m: self.places.state(m) for m in "abcde"}
            assert {m for m, state in states.items() if state == LOADING} == self.loading
            assert {m for m, state in states.items() if state == UNLOADING} == self.unloading
            assert {m for m, state in states.items() if state == LOADED} == set(self.used)
            assert self.places.present == [
                m for m in self.places.present if m in self.loading | set(self.used)
            ]

    @invariant()
    def whoever_got_a_model_has_it(self) -> None:
        for models in self.has.values():
            assert all(self.places.state(m) == LOADED and self.places.is_pinned(m) for m in models)

    @invariant()
    def somebody_moves(self) -> None:
        """Nobody waits while nothing loads, nothing unloads and everybody who has a model waits too."""
        if self.waits and not self.loading and not self.unloading:
            runs = [holder for holder, models in self.has.items() if models and holder not in self.waits]
            assert runs, "all wait for one another"

    def teardown(self) -> None:
        if not hasattr(self, "places"):
            return
        for holder in list(self.has):
            if holder in self.waits:
                self.places.give_up(self.waits.pop(holder), holder)
            self.places.release(holder)
        for model_id in self.loading:
            self.places.loaded(model_id)
        for step in self.places.evacuate():
            self.places.unloaded(step.model_id)
        for model_id in self.unloading:
            self.places.unloaded(model_id)
        assert (
            not len(self.places)
            and not self.places._held
            and not self.places._pins
            and not self.places._waiting
        )


TestPlaces = PlacesMachine.TestCase
TestPlaces.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
