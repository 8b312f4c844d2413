"""Passive outlier ejection: a replica that fails far more than its peers gets no requests for a growing while.

Judged by real traffic only (Envoy's outlier detection, with peers as the measure): when everybody fails, nobody is an
outlier, and never are more than half of the replicas out. After its time a replica is probed with one request at a
time. Pure: time is an argument. As long as nothing fails nothing is counted, so healthy deployments pay nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

WINDOW_S = 30.0
"""Failures and successes of the last 15 to 30 seconds count."""
BASE_S, LONGEST_S = 5.0, 300.0
"""Length of a first ejection, and what doubling stops at."""
FAILURES, SHARE = 5, 0.2
"""Failures of the replica itself (death, internal error, timeout) that it takes, and their share of its calls."""
OWN_FAILURES, OWN_SHARE = 10, 0.5
"""The same for failures that its user code answers with: these are judged only when they are most of its calls."""
FACTOR = 3.0
"""Its share must be so many times that of its peers."""
PROBES = 3
"""Successes in a row that bring it back."""

IN, OUT, PROBING = range(3)


@dataclass
class _Counts:
    calls: int = 0
    failures: int = 0
    own_failures: int = 0


@dataclass
class _Standing:
    """What is known of one replica."""

    recent: _Counts = field(default_factory=_Counts)
    before: _Counts = field(default_factory=_Counts)
    state: int = IN
    until: float = 0.0
    times: int = 0
    own_code: bool = False
    probes: int = 0

    def total(self, name: str) -> int:
        count: int = getattr(self.recent, name) + getattr(self.before, name)
        return count


class Outliers:
    """The judge of one deployment's replicas. `on_change(name)` is called when a replica's `state` has changed."""

    def __init__(self, on_change: Callable[[str], object] | None = None) -> None:
        self.watching = False
        """Whether successes count at present: there has been a failure lately, or somebody is out."""
        self._on_change = on_change
        self._present: set[str] = set()
        self._standings: dict[str, _Standing] = {}
        self._turned_at = 0.0
        self._last_failure = 0.0

    # ---- who is there ----------------------------------------------------------------------------------------

    def keep(self, present: Iterable[str]) -> None:
        """These replicas can be reached. When too many of them are out, those that would be back first come back."""
        self._present = set(present)
        for name in [name for name in self._standings if name not in self._present]:
            if self._standings[name].state == IN:
                del self._standings[name]
        out = sorted((self._standings[name].until, name) for name in self._present if self.state(name) != IN)
        for _, name in out[: max(0, len(out) - len(self._present) // 2)]:
            self._readmit(name)

    def forget(self, name: str) -> None:
        """The replica is gone for good."""
        self._present.discard(name)
        self._standings.pop(name, None)

    def state(self, name: str) -> int:
        standing = self._standings.get(name)
        return standing.state if standing is not None else IN

    def until(self, name: str) -> float:
        """When a replica that is out may be probed."""
        return self._standings[name].until

    # ---- what happens ----------------------------------------------------------------------------------------

    def succeeded(self, name: str, now: float) -> None:
        """A call was answered. Need not be told unless `watching`."""
        if not self.watching:
            return
        standing = self._of(name, now)
        standing.recent.calls += 1
        if standing.state == PROBING:
            self._probed(name, standing)
        elif now - self._last_failure > WINDOW_S and not self._out():
            self._rest(now)

    def failed(self, name: str, now: float, *, own_code: bool) -> None:
        """A call has failed: by the replica, or by what its user code answered."""
        self.watching = True
        standing = self._of(name, now)
        self._last_failure = now
        standing.recent.calls += 1
        if own_code:
            standing.recent.own_failures += 1
        else:
            standing.recent.failures += 1
        if standing.state == PROBING:
            if own_code and not standing.own_code:
                self._probed(name, standing)  # it answers again; what it answers is not why it was out
            else:
                self._eject(name, standing, now)
        elif standing.state == IN and self._may_eject() and (kind := self._outlying(name, standing)):
            standing.own_code = kind == "own_failures"
            self._eject(name, standing, now)

    def probe(self, name: str, now: float) -> bool:
        """The time of an ejection is over: the replica is to be tried again. False: not yet, or not out."""
        standing = self._standings.get(name)
        if standing is None or standing.state != OUT or now < standing.until:
            return False
        standing.state, standing.probes = PROBING, 0
        self._tell(name)
        return True

    # ---- judging ---------------------------------------------------------------------------------------------

    def _of(self, name: str, now: float) -> _Standing:
        if now - self._turned_at > WINDOW_S / 2:
            stale = now - self._turned_at > WINDOW_S
            for standing in self._standings.values():
                standing.before = _Counts() if stale else standing.recent
                standing.recent = _Counts()
            self._turned_at = now
        return self._standings.setdefault(name, _Standing())

    def _outlying(self, name: str, standing: _Standing) -> str:
        """The kind of failures of which it has far more than its peers, or ""."""
        peers = [other for key, other in self._standings.items() if key != name and key in self._present]
        for kind, least, share in (("failures", FAILURES, SHARE), ("own_failures", OWN_FAILURES, OWN_SHARE)):
            if standing.total(kind) < least or self._rate(standing, kind) < share:
                continue
            calls = sum(peer.total("calls") for peer in peers)
            if kind == "own_failures" and calls < OWN_FAILURES:
                continue  # nobody to compare it with
            failures = sum(peer.total(kind) for peer in peers)
            if self._rate(standing, kind) >= FACTOR * failures / max(1, calls):
                return kind
        return ""

    def _rate(self, standing: _Standing, kind: str) -> float:
        return standing.total(kind) / max(1, standing.total("calls"))

    def _out(self) -> int:
        return sum(self.state(name) != IN for name in self._present)

    def _may_eject(self) -> bool:
        return self._out() + 1 <= len(self._present) // 2

    def _eject(self, name: str, standing: _Standing, now: float) -> None:
        if (
            standing.state == IN
            and standing.until
            and now - standing.until > 2 * self._length(standing.times)
        ):
            standing.times = 0  # it has been well for long enough
        standing.state = OUT
        standing.until = now + self._length(standing.times)
        standing.times += 1
        self._tell(name)

    def _length(self, times: int) -> float:
        return float(min(LONGEST_S, BASE_S * 2 ** min(times, 16)))

    def _probed(self, name: str, standing: _Standing) -> None:
        standing.probes += 1
        if standing.probes >= PROBES:
            self._readmit(name)

    def _readmit(self, name: str) -> None:
        standing = self._standings[name]
        standing.state = IN
        standing.recent, standing.before = _Counts(), _Counts()
        self._tell(name)

    def _rest(self, now: float) -> None:
        """Nothing has failed for a whole window: nothing is counted until it does."""
        self.watching = False
        for standing in self._standings.values():
            standing.recent, standing.before = _Counts(), _Counts()

    def _tell(self, name: str) -> None:
        if self._on_change is not None:
            self._on_change(name)
