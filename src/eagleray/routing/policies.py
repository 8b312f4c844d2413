"""Choosing a replica: functions and small objects over what a router knows of its targets.

They get the targets of one deployment and return one that has room, or None. They never wait and do no I/O. A policy
puts each call into a line: calls of one line prefer the same replicas, those of line "" take any.
"""

from __future__ import annotations

import bisect
import hashlib
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from eagleray.base.errors import ConfigError

if TYPE_CHECKING:
    from eagleray.routing.call import RoutedCall
    from eagleray.routing.target import Target


class Candidate(Protocol):
    """What `power_of_two` must know of a replica."""

    @property
    def has_room(self) -> bool: ...
    @property
    def score(self) -> int: ...
    @property
    def latency_s(self) -> float: ...


C = TypeVar("C", bound=Candidate)
Choose = Callable[[Sequence["Target"]], "Target | None"]

_SLOWER, _NOTICEABLE_S = 1.5, 0.001
"""Between equally loaded replicas latency decides when one's is so many times the other's, and so much longer: less is
noise, and would send everything to the same one."""
_LOOK_AGAIN = 8
"""One in so many ties goes to the slower one, which may have recovered meanwhile."""


def power_of_two(targets: Sequence[C], randrange: Callable[[int], int] = random.randrange) -> C | None:
    """The less loaded of two targets drawn at random (Mitzenmacher, 2001); all are tried before giving up.

    Two draws keep several routers from stampeding to the one replica that all of them believe to be idle. Of two that
    are equally loaded, the one that answers faster is taken (as Prequal does, NSDI 2024).
    """
    count = len(targets)
    if count == 1:
        only = targets[0]
        return only if only.has_room else None
    if count == 0:
        return None
    first = randrange(count)
    second = randrange(count - 1)
    a, b = targets[first], targets[second if second < first else second + 1]
    if a.has_room:
        if not b.has_room:
            return a
        difference = a.score - b.score
        if difference:
            return b if difference > 0 else a
        slow, fast = a.latency_s, b.latency_s
        if slow > _NOTICEABLE_S and slow - _NOTICEABLE_S > fast * _SLOWER and fast and randrange(_LOOK_AGAIN):
            return b
        return a
    if b.has_room:
        return b
    if count == 2:
        return None
    return min((t for t in targets if t.has_room), key=lambda t: t.score, default=None)


def _digest(*parts: str) -> int:
    """The same in every process, unlike `hash`."""
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest())


def by_locality(
    targets: Sequence[Target], node_id: str, zone: str, choose: Choose = power_of_two
) -> Target | None:
    """A target on this node if one has room, else one in this zone, else any (all are on one node on one machine)."""
    near = [target for target in targets if target.entry.node_id == node_id]
    if near and len(near) < len(targets) and (found := choose(near)) is not None:
        return found
    near = [target for target in targets if zone and target.entry.zone == zone]
    if near and len(near) < len(targets) and (found := choose(near)) is not None:
        return found
    return choose(targets)


def by_model(model_id: str, targets: Sequence[Target], patient: bool, choose: Choose) -> Target | None:
    """A target that has the model, or is loading it; else the one where loading it does least harm.

    None also when those that have it are full and the call is `patient`.
    """
    holders = [target for target in targets if target.holds(model_id)]
    if holders:
        found = choose(holders)
        if found is not None or patient:
            return found
    return roomiest(model_id, targets)


def roomiest(model_id: str, targets: Sequence[Target]) -> Target | None:
    """Of the targets that take calls, one where no other model must go, with the fewest models; see `Record.crowding`.

    Ties are broken by a hash of model and replica: routers that know nothing of one another yet agree, so that a new
    model is loaded once.
    """
    ready = [target for target in targets if target.has_room]
    if len(ready) < 2:
        return ready[0] if ready else None
    return min(ready, key=lambda target: (target.crowding, _digest(model_id, target.entry.replica_id)))


class Policy:
    """Power of two choices; where replicas report models, those that have the model first. The base of all others."""

    def __init__(self) -> None:
        self.has_models = False
        """Whether some target multiplexes."""

    def update(self, targets: Sequence[Target]) -> None:
        """The targets, or their models, have changed."""
        self.has_models = any(target.models is not None for target in targets)

    def line(self, call: RoutedCall) -> str:
        """Which line `call` waits in."""
        return call.head.multiplexed_model_id if self.has_models else ""

    def pick(self, call: RoutedCall, targets: Sequence[Target], patient: bool) -> Target | None:
        """A target with room for `call`. Not `patient`: the call has waited for long enough, any will do."""
        model_id = call.head.multiplexed_model_id
        if model_id and self.has_models:
            return by_model(model_id, targets, patient, self.choose)
        return self.choose(targets)

    def choose(self, targets: Sequence[Target]) -> Target | None:
        """A target with room for a call that prefers none of `targets`."""
        return power_of_two(targets)


class RoundRobin(Policy):
    """Each target in turn; full ones are passed over."""

    def __init__(self) -> None:
        super().__init__()
        self._last = ""

    def choose(self, targets: Sequence[Target]) -> Target | None:
        # In the order of ids: it stays the same when replicas come and go, and for subsets.
        ordered = sorted(targets, key=_replica_id)
        start = bisect.bisect_right([target.entry.replica_id for target in ordered], self._last)
        for target in (*ordered[start:], *ordered[:start]):
            if target.has_room:
                self._last = target.entry.replica_id
                return target
        return None


def _replica_id(target: Target) -> str:
    return target.entry.replica_id


class ConsistentHash(Policy):
    """The same session to the same replica, for as long as it is there; few sessions move when replicas come or go.

    When the replica is full its `num_fallback_replicas` successors on the ring are tried. Calls without a session are
    chosen for by power of two.
    """

    def __init__(self, num_virtual_nodes: int = 100, num_fallback_replicas: int = 2) -> None:
        super().__init__()
        if not isinstance(num_virtual_nodes, int) or num_virtual_nodes < 1:
            raise ConfigError(f"num_virtual_nodes must be a positive integer, got {num_virtual_nodes!r}.")
        if not isinstance(num_fallback_replicas, int) or num_fallback_replicas < 0:
            raise ConfigError(f"num_fallback_replicas must be 0 or more, got {num_fallback_replicas!r}.")
        self._nodes = num_virtual_nodes
        self._wanted = 1 + num_fallback_replicas
        self._points: list[int] = []
        self._owners: list[str] = []
        self._members: frozenset[str] = frozenset()

    def update(self, targets: Sequence[Target]) -> None:
        super().update(targets)
        members = frozenset(target.entry.replica_id for target in targets)
        if members != self._members:
            self._members = members
            ring = sorted(
                (_digest(member, str(number)), member) for member in members for number in range(self._nodes)
            )
            self._points = [point for point, _ in ring]
            self._owners = [owner for _, owner in ring]

    def preferred(self, session_id: str) -> list[str]:
        """Ids of the replica of this session and of those that stand in for it, in this order."""
        found: list[str] = []
        count = len(self._owners)
        start = bisect.bisect_right(self._points, _digest(session_id))
        for step in range(count):
            owner = self._owners[(start + step) % count]
            if owner not in found:
                found.append(owner)
                if len(found) == self._wanted:
                    break
        return found

    def line(self, call: RoutedCall) -> str:
        session_id = call.head.session_id
        return "|".join(self.preferred(session_id)) if session_id else super().line(call)

    def pick(self, call: RoutedCall, targets: Sequence[Target], patient: bool) -> Target | None:
        session_id = call.head.session_id
        if not session_id:
            return super().pick(call, targets, patient)
        by_id = {target.entry.replica_id: target for target in targets}
        found = [by_id[replica_id] for replica_id in self.preferred(session_id) if replica_id in by_id]
        for target in found:
            if target.has_room:
                return target
        # Without fallbacks the user wants this very replica; one that takes no calls is not worth waiting for.
        if patient or (self._wanted == 1 and found and found[0].takes_calls):
            return None
        return self.choose(targets)


class LocalityAware(Policy):
    """Replicas of this node first, then those of this zone. On one machine all replicas are on this node."""

    def __init__(self, node_id: str = "", zone: str = "") -> None:
        super().__init__()
        self._node_id, self._zone = node_id, zone

    def choose(self, targets: Sequence[Target]) -> Target | None:
        return by_locality(targets, self._node_id, self._zone)


BUILT_IN: dict[str, Callable[..., Policy]] = {
    "power_of_two": Policy,
    "round_robin": RoundRobin,
    "consistent_hash": ConsistentHash,
    "locality_aware": LocalityAware,
}


def make_policy(kind: str, options: dict[str, Any]) -> Policy:
    """The policy of that name. Raises ConfigError or TypeError for options that it does not take."""
    return BUILT_IN[kind](**options)
