"""Which GPUs, memory and custom resources a new replica gets, or exactly what is missing.

All amounts that may be fractions are whole numbers of 1/10,000 (Ray's granularity), so that sums are exact. CPUs are a
hint on one machine and never refuse a replica. Nothing is remembered here: what is free follows from what is held.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

UNIT = 10_000
"""Parts of one GPU or of one custom resource."""


class Demand(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one replica occupies. `gpus` and `custom` are in 1/10,000; `explicit_cpus`: the user wrote `num_cpus`."""

    cpus: float = 1.0
    explicit_cpus: bool = False
    gpus: int = 0
    memory: int = 0
    custom: dict[str, int] = {}


class Allocation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a replica holds until its process is gone. `gpus`: id -> parts of 1/10,000."""

    gpus: dict[str, int] = {}
    memory: int = 0
    custom: dict[str, int] = {}

    @property
    def is_empty(self) -> bool:
        return not (self.gpus or self.memory or self.custom)


class Supply(msgspec.Struct, frozen=True):
    """What the machine has in total. `gpu_ids` are values for CUDA_VISIBLE_DEVICES."""

    num_cpus: float = 1.0
    memory: int = 0
    gpu_ids: tuple[str, ...] = ()
    custom: dict[str, int] = {}


class Shortage(msgspec.Struct, frozen=True):
    """Why a replica cannot be placed now; `text` reads like `needs num_gpus=1, free 0 of 2`."""

    text: str


def place(supply: Supply, held: Iterable[Allocation], demand: Demand) -> Allocation | Shortage:
    """Chooses for `demand` from what `held` leaves of `supply`. Fractions share the fullest GPU that has room."""
    if not (demand.gpus or demand.memory or demand.custom):
        return Allocation()  # at once: the sums below, for each of thousands of replicas, would take minutes
    held = list(held)
    missing = []
    gpus = _choose_gpus(supply, held, demand.gpus)
    if gpus is None:
        used = sum(sum(one.gpus.values()) for one in held)
        total = len(supply.gpu_ids) * UNIT
        spread = " (no single GPU has that much free)" if total - used >= demand.gpus else ""
        missing.append(_line("num_gpus", demand.gpus / UNIT, (total - used) / UNIT, total / UNIT) + spread)
    free = supply.memory - sum(one.memory for one in held)
    if demand.memory > free:
        missing.append(_line("memory", demand.memory, free, supply.memory))
    for name, amount in demand.custom.items():
        total = supply.custom.get(name, 0)
        free = total - sum(one.custom.get(name, 0) for one in held)
        if amount > free:
            missing.append(_line(f"resources[{name!r}]", amount / UNIT, free / UNIT, total / UNIT))
    if missing or gpus is None:
        return Shortage("; ".join(missing))
    return Allocation(gpus=gpus, memory=demand.memory, custom=dict(demand.custom))


def visible_devices(supply: Supply, allocation: Allocation) -> str | None:
    """Value of CUDA_VISIBLE_DEVICES: empty hides all GPUs, None leaves the variable alone (no GPUs here)."""
    if not supply.gpu_ids:
        return None
    return ",".join(gpu for gpu in supply.gpu_ids if gpu in allocation.gpus)


def _choose_gpus(supply: Supply, held: list[Allocation], wanted: int) -> dict[str, int] | None:
    if wanted == 0:
        return {}
    free = {gpu: UNIT - sum(one.gpus.get(gpu, 0) for one in held) for gpu in supply.gpu_ids}
    if wanted >= UNIT:
        whole = [gpu for gpu in supply.gpu_ids if free[gpu] == UNIT][: wanted // UNIT]
        return dict.fromkeys(whole, UNIT) if len(whole) * UNIT == wanted else None
    fitting = [gpu for gpu in supply.gpu_ids if free[gpu] >= wanted]
    return {min(fitting, key=free.__getitem__): wanted} if fitting else None


def _line(name: str, needed: float, free: float, total: float) -> str:
    return f"needs {name}={_amount(needed)}, free {_amount(max(free, 0))} of {_amount(total)}"


def _amount(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.15g}"


def cpu_warning(supply: Supply, demands: Iterable[tuple[Demand, int]]) -> str:
    """Says that replicas, (demand, count) each, ask for more CPUs than there are; default ones do not count."""
    asked = sum(demand.cpus * count for demand, count in demands if demand.explicit_cpus)
    if asked <= supply.num_cpus:
        return ""
    return (
        f"All replicas together ask for num_cpus={asked:.15g}, this machine has {supply.num_cpus:.15g}. "
        "They start all the same, and share what there is."
    )
