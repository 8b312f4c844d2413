"""Snapshots as text for Prometheus: its own format 0.0.4, and OpenMetrics 1.0 with exemplars for who asks for it.

Names are Ray's: `ray_` before those of the registry, but for our own (`eagleray_`), and `_total` behind counters. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from eagleray.base.metrics import COUNTER, HISTOGRAM, Sample, Snapshot

TEXT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = b"application/openmetrics-text; version=1.0.0; charset=utf-8"

_OWN = "eagleray_"
_TOTAL = "_total"
_MOST_EXEMPLAR_CHARACTERS = 128
"""OpenMetrics: of an exemplar's label names and values together."""


def wants_openmetrics(accept: str) -> bool:
    """Whether an Accept header names OpenMetrics without refusing it (`q=0`)."""
    for part in accept.split(","):
        kind, *parameters = (word.strip().lower() for word in part.split(";"))
        if kind == "application/openmetrics-text":
            return not any(word.replace(" ", "") in ("q=0", "q=0.0") for word in parameters)
    return False


def family_name(snapshot: Snapshot) -> str:
    """Of a counter the name without `_total`, as in OpenMetrics."""
    name = snapshot.name if snapshot.name.startswith(_OWN) else "ray_" + snapshot.name
    return name.removesuffix(_TOTAL) if snapshot.kind == COUNTER else name


def render(snapshots: Iterable[Snapshot], *, openmetrics: bool = False) -> bytes:
    """The whole text. Snapshots of one name follow each other.

    A name that comes with another kind is left out, and so is one whose lines would be called like another's.
    """
    families: dict[str, list[Snapshot]] = {}
    owners: dict[str, Snapshot] = {}
    for snapshot in snapshots:
        names = _line_names(snapshot)
        first = [owners.setdefault(name, snapshot) for name in names]
        if all((one.name, one.kind) == (snapshot.name, snapshot.kind) for one in first):
            families.setdefault(family_name(snapshot), []).append(snapshot)
        else:  # what it has taken is free for others
            for name in names:
                if owners[name] is snapshot:
                    del owners[name]
    lines: list[str] = []
    for name, members in families.items():
        kind = members[0].kind
        shown = name + _TOTAL if kind == COUNTER and not openmetrics else name
        text = members[0].help.replace("\\", "\\\\").replace("\n", "\\n")
        if openmetrics:
            text = text.replace('"', '\\"')
        lines.append(f"# HELP {shown} {text}\n# TYPE {shown} {kind}\n")
        for member in members:
            if kind == HISTOGRAM:
                lines.extend(_histogram(name, member, openmetrics))
            else:
                lines.extend(_values(name + _TOTAL if kind == COUNTER else name, member))
    if openmetrics:
        lines.append("# EOF\n")
    return "".join(lines).encode("utf-8", "replace")


def _line_names(snapshot: Snapshot) -> list[str]:
    """All that its lines are called, those of the head among them."""
    name = family_name(snapshot)
    if snapshot.kind == HISTOGRAM:
        return [name, name + "_bucket", name + "_sum", name + "_count"]
    return [name, name + _TOTAL] if snapshot.kind == COUNTER else [name]


def _values(name: str, snapshot: Snapshot) -> Iterator[str]:
    for sample in snapshot.samples:
        labels = _labels(snapshot.label_names, sample.labels)
        yield (
            f"{name}{{{labels}}} {_number(sample.value)}\n" if labels else f"{name} {_number(sample.value)}\n"
        )


def _histogram(name: str, snapshot: Snapshot, openmetrics: bool) -> Iterator[str]:
    bounds = [_bound(bound, openmetrics) for bound in snapshot.bounds] + ["+Inf"]
    for sample in snapshot.samples:
        labels = _labels(snapshot.label_names, sample.labels)
        before = labels + "," if labels else ""
        seen, exemplar = 0, _exemplar(sample) if openmetrics else ""
        for index, count in enumerate(sample.counts or ()):
            seen += count
            line = f'{name}_bucket{{{before}le="{bounds[index]}"}} {seen}'
            if (
                exemplar
                and sample.exemplar is not None
                and _holds(snapshot.bounds, index, sample.exemplar[1])
            ):
                line += exemplar
                exemplar = ""
            yield line + "\n"
        around = f"{{{labels}}}" if labels else ""
        yield f"{name}_sum{around} {_number(sample.value)}\n{name}_count{around} {seen}\n"


def _holds(bounds: tuple[float, ...], index: int, value: float) -> bool:
    return index == len(bounds) or value <= bounds[index]


def _exemplar(sample: Sample) -> str:
    if sample.exemplar is None:
        return ""
    trace_id, value, at = sample.exemplar
    if not trace_id or len("trace_id") + len(trace_id) > _MOST_EXEMPLAR_CHARACTERS:
        return ""
    return f' # {{trace_id="{_escaped(trace_id)}"}} {_number(value)} {at:.3f}'


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True) if value)


def _escaped(value: str) -> str:
    if '"' in value or "\\" in value or "\n" in value:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return value


def _number(value: float) -> str:
    if value == int(value) if abs(value) < 1e15 else False:
        return str(int(value))
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text := repr(float(value)), text)


def _bound(value: float, openmetrics: bool) -> str:
    return repr(float(value)) if openmetrics else _number(value)
