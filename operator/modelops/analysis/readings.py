"""Ask for the metrics of a policy's own, and turn the answers into readings by window.

A part of a ratio, a counter or a score without ``$WINDOW`` is taken for counters: they are differenced here
for each pod, as the engines' own are, so that whole numbers stay whole.  With ``$WINDOW`` a query gives the
count of a window itself, at its end, and so do gauges and thresholds; it must give exactly one value.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from modelops.analysis.queries import WINDOW, Buckets, Selector, filled
from modelops.analysis.samples import PodSeries, Reading, address, growth, instants_of, keyed
from modelops.analysis.settings import Custom, Kind, Metric, Mode

Answers = Mapping[str, Sequence[PodSeries] | str]
"""Series by query text; a sentence where Prometheus refused the query."""
COUNTED = (Kind.RATIO, Kind.COUNTER, Kind.SCORE)


@dataclass(frozen=True, slots=True)
class Pair:
    """The selectors of both versions."""

    canary: Selector
    stable: Selector


def read_metrics(metrics: Iterable[Metric]) -> dict[str, Custom]:
    """Return the metrics that are read by queries, by name, without those that are switched off."""
    return {m.name: m.custom for m in metrics if m.custom and m.is_read and m.mode is not Mode.OFF}


def histograms(metrics: Iterable[Metric]) -> dict[str, Buckets]:
    """Return the buckets of the policy's own histograms by name of the metric."""
    return {
        m.name: Buckets(f"{m.custom.queries[0]}_bucket")
        for m in metrics
        if m.custom and m.custom.kind is Kind.HISTOGRAM and m.mode is not Mode.OFF
    }


def texts(metrics: Mapping[str, Custom], roles: Pair, window_seconds: int) -> tuple[str, ...]:
    """Return every query once, filled in for each version that it asks about."""
    found = (
        filled(query, role, window_seconds)
        for custom in metrics.values()
        for role in _roles(custom, roles)
        for query in custom.queries
    )
    return tuple(dict.fromkeys(found))


def readings(
    metrics: Mapping[str, Custom],
    roles: Pair,
    answers: Answers,
    *,
    origin: float,
    until: float,
    window: int,
    step: float,
) -> tuple[list[dict[str, Reading]], dict[str, str]]:
    """Return the readings of each closed window by metric, and a sentence for each metric without use.

    What gave no number, or none that is finite, is left out of its window.
    """
    windows: list[dict[str, Reading]] = [{} for _ in instants_of(origin, until, window, step)]
    faults: dict[str, str] = {}
    for name, custom in metrics.items():
        by_role = []
        for role in _roles(custom, roles):
            series = [answers[filled(query, role, window)] for query in custom.queries]
            faulty = _fault(name, custom, series)
            if faulty:
                faults[name] = faulty
                break
            families = [one for one in series if not isinstance(one, str)]
            by_role.append([_parts(custom, families, at) for at in instants_of(origin, until, window, step)])
        else:
            for into, *parts in zip(windows, *by_role, strict=True):
                whole = [part for part in parts if part is not None]
                if len(whole) == len(parts):
                    into[name] = Reading(*whole)
    for name, custom in metrics.items():
        if custom.kind is Kind.SCORE and name not in faults:
            outside = _outside(name, windows)
            if outside:
                faults[name] = outside
    return [{name: one for name, one in row.items() if name not in faults} for row in windows], faults


def _roles(custom: Custom, roles: Pair) -> tuple[Selector, ...]:
    return (roles.canary,) if custom.kind is Kind.THRESHOLD else (roles.canary, roles.stable)


def _is_counter(custom: Custom, query: str) -> bool:
    return custom.kind in COUNTED and WINDOW not in query


def _fault(name: str, custom: Custom, answers: Sequence[Sequence[PodSeries] | str]) -> str:
    """Return why the answers of one version cannot be used; empty: they can."""
    for query, series in zip(custom.queries, answers, strict=True):
        if isinstance(series, str):
            return f"{name}: needs a query that Prometheus understands, found {query!r}: {series}; correct it"
        if len(series) > 1 and not _is_counter(custom, query):
            return (
                f"{name}: needs one value for each version, found {len(series)} from {query!r}; "
                "aggregate it, for example by sum(...)"
            )
    return ""


def _parts(
    custom: Custom, families: Sequence[Sequence[PodSeries]], instants: Sequence[int]
) -> tuple[float, ...] | None:
    """Return the value of each query in one window; None when one has none."""
    counters = [_is_counter(custom, query) for query in custom.queries]
    counted = _grown([f for f, is_one in zip(families, counters, strict=True) if is_one], instants)
    if counted is None:
        return None
    of_counters = iter(counted)
    values = [
        next(of_counters) if is_one else _value(family, instants[-1])
        for family, is_one in zip(families, counters, strict=True)
    ]
    known = [value for value in values if value is not None]
    return tuple(known) if len(known) == len(values) else None


def _value(series: Sequence[PodSeries], instant: int) -> float | None:
    """Return the only value at *instant*, which is finite."""
    found = dict(keyed(series[0])).get(instant) if series else None
    return found if found is not None and math.isfinite(found) else None


def _grown(families: Sequence[Sequence[PodSeries]], instants: Sequence[int]) -> list[float] | None:
    """Return how much each family of counters grew; None without a target that was there all the time.

    A target that has one of the families has the others too, at 0 until their first event.
    """
    targets: dict[tuple[str, str], list[list[dict[int, float]]]] = {}
    for number, family in enumerate(families):
        for one in family:
            rows = targets.setdefault(address(one), [[] for _ in families])
            rows[number].append(dict(keyed(one)))
    out: list[float] = [0.0] * len(families)
    is_counted = not families
    for rows in targets.values():
        seen = {instant for row in rows for values in row for instant in values}
        if not seen.issuperset(instants):
            continue
        steps = [[growth(values.get(at) for at in instants) for values in row] for row in rows]
        if any(step is None for row in steps for step in row):
            continue
        is_counted = True
        out = [a + sum(step or 0.0 for step in row) for a, row in zip(out, steps, strict=True)]
    return out if is_counted else None


def _outside(name: str, windows: Sequence[Mapping[str, Reading]]) -> str:
    """Return that a score has a mean that is none; empty: all lie within 0..1."""
    for row in windows:
        reading = row.get(name)
        for total, count in (reading.canary, reading.stable) if reading else ():
            if count > 0 and not 0 <= total / count <= 1:
                return (
                    f"{name}: needs scores from 0 to 1, found a mean of {total / count:.4g}; "
                    "scale them, or use a gauge"
                )
    return ""
