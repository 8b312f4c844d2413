"""Finds the highest rate at which a server keeps a latency objective, by loads of an open loop one after the other.

Each trial begins with a warm-up at its rate, and not before the server has recovered from the one before. A trial that
cannot hold any more is cut short. What limits is judged by the client's own figures: a client that cannot send on
schedule says nothing about the server.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from eagleray.base.errors import PreconditionError
from eagleray.loadtest.load import Load
from eagleray.loadtest.plan import Objective, Plan
from eagleray.loadtest.report import FULL_CPU, failures
from eagleray.loadtest.search import Search
from eagleray.loadtest.tally import Point, Tally

SERVER, CLIENT, CONNECTIONS = "server", "client", "connections"
"""What keeps a trial from holding."""

_GUESS_S = 1.0
_GUESS_CONNECTIONS = 8
"""A closed loop of these shows the order of magnitude."""
_PATIENCE_S = 15.0
"""For a server to recover from a trial that was too much for it."""
_LONGEST = 6.0
"""A slow rate is measured longer, up to so many times `duration_s`, until its percentile is of at least one request."""
_STEADY = 10.0
"""A trial lasts at least so many times the objective: a short one would hold as long as a queue can hide the excess."""


@dataclass(frozen=True)
class Trial:
    """One rate, tried once. `tail_s` is the objective's percentile of all requests; those that failed are infinite."""

    rate: float
    tail_s: float
    held: bool
    limit: str
    """Of one that did not hold: SERVER, CLIENT or CONNECTIONS."""
    plan: Plan
    tally: Tally


class Hunt:
    """One search. `trials` is what was tried so far; `best` the last one at the highest rate that holds."""

    def __init__(
        self,
        plan: Plan,
        objective: Objective,
        address: tuple[str, int],
        request: bytes,
        *,
        on_tick: Callable[[Point | None], None],
        on_trial: Callable[[Trial], None],
        on_rate: Callable[[Plan], None],
    ) -> None:
        """`plan.rate` is where to begin, if given. `on_rate` is called before each trial, `on_trial` after it."""
        self.trials: list[Trial] = []
        self.best: Trial | None = None
        self.is_finished = False
        """Not when it was stopped before."""
        self._plan = plan
        self._objective = objective
        self._address = address
        self._request = request
        self._on_tick = on_tick
        self._on_trial = on_trial
        self._on_rate = on_rate
        self._load: Load | None = None
        self._is_stopped = False

    async def run(self) -> None:
        """Until the rate is found, or `stop`."""
        search = Search(self._plan.rate or await self._guess())
        while search.rate is not None and not self._is_stopped:
            trial = await self._try(search.rate)
            if self._is_stopped:
                break
            self.trials.append(trial)
            self._on_trial(trial)
            search.tell(trial.held)
            await self._recover()
        self.is_finished = not self._is_stopped
        rate = search.best if self.is_finished else search.low
        held = [trial for trial in self.trials if trial.held and trial.rate == rate]
        self.best = held[-1] if held else None

    def stop(self) -> None:
        """Ends the present trial, which does not count, and with it the search."""
        self._is_stopped = True
        if self._load is not None:
            self._load.stop()

    @property
    def limit(self) -> str:
        """What kept the next higher rate from holding; nothing when none was tried."""
        above = [t for t in self.trials if not t.held and (self.best is None or t.rate > self.best.rate)]
        return min(above, key=lambda trial: trial.rate).limit if above else ""

    async def _run(self, plan: Plan, on_tick: Callable[[Point | None], None] | None = None) -> Tally:
        load = self._load = Load(plan, self._address, self._request, on_tick=on_tick)
        return await load.run()

    async def _guess(self) -> float:
        plan = replace(
            self._plan,
            rate=None,
            connections=_GUESS_CONNECTIONS,
            duration_s=_GUESS_S,
            warm_up_s=_GUESS_S,
            timeout_s=min(self._plan.timeout_s, _PATIENCE_S),
        )
        tally = await self._run(plan)
        if not tally.good.count and not self._is_stopped:
            found = ", ".join(f"{kind}: {count}" for kind, count in failures(tally)) or "nothing at all"
            raise PreconditionError(
                f"There is no rate to look for: {_GUESS_CONNECTIONS} connections got no good answer in {_GUESS_S:g} s, "
                f"but {found}. Correct the request, or look at the server."
            )
        return tally.rate / _GUESS_CONNECTIONS

    async def _try(self, rate: float) -> Trial:
        objective = self._objective
        allowed_share = 1 - objective.percentile / 100
        given_s = max(self._plan.duration_s, _STEADY * objective.latency_s)
        needed_s = 1 / (allowed_share * rate) if allowed_share else math.inf
        plan = replace(self._plan, rate=rate, duration_s=max(given_s, min(needed_s, given_s * _LONGEST)))
        allowed = allowed_share * rate * plan.duration_s
        self._on_rate(plan)

        def look(point: Point | None) -> None:
            self._on_tick(point)
            tally = load.tally
            if tally.failures + tally.good.count_above(objective.latency_s) > allowed + 1:
                load.stop()

        load = self._load = Load(plan, self._address, self._request, on_tick=look)
        # Whatever is not answered by then is too late anyway.
        end = asyncio.get_running_loop().call_later(
            plan.warm_up_s + plan.duration_s + objective.latency_s + 0.1, load.stop
        )
        tally = await load.run()
        end.cancel()
        tail = tally.good.percentile(objective.percentile, tally.failures + tally.unfinished)
        held = tail <= objective.latency_s
        return Trial(rate, tail, held, "" if held else limit_of(tally, objective), plan, tally)

    async def _recover(self) -> None:
        """Asks one by one until the answers are in time again; no longer than it is worth."""
        plan = replace(
            self._plan,
            rate=None,
            connections=1,
            requests=5,
            warm_up_s=0.0,
            duration_s=_PATIENCE_S,
            timeout_s=_PATIENCE_S,
        )
        end = time.monotonic() + _PATIENCE_S
        while not self._is_stopped and time.monotonic() < end:
            tally = await self._run(plan)
            if tally.good.percentile(50, tally.failures) <= self._objective.latency_s:
                return


def limit_of(tally: Tally, objective: Objective) -> str:
    """What kept a trial from holding."""
    lag = tally.lag.percentile(objective.percentile) if tally.lag.count else 0.0
    is_short_of = any(kind.endswith("left here") for kind in tally.errors)
    if lag > objective.latency_s / 2 or tally.client_cpu >= FULL_CPU or is_short_of:
        return CLIENT
    return CONNECTIONS if tally.waited else SERVER
