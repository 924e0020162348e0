"""Turn counters as they were scraped into closed windows of counts per role."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from types import MappingProxyType

NOTHING: Mapping[str, tuple[int, ...]] = MappingProxyType({})
NOT_SCRAPED = "NotScraped"
"""Reason of a dropped window: a role had no pod with a sample at every scrape."""


@dataclass(frozen=True, slots=True)
class PodSeries:
    """One time series as Prometheus gives it: labels and (epoch seconds, value), ascending.

    A value of NaN says that the sample cannot be used.
    """

    labels: Mapping[str, str]
    values: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class RoleWindow:
    """What one role did in one window.

    ``requests`` and ``errors`` are None when they were not scraped; client cancels are in neither.
    ``latency`` has, by metric, the increments of the cumulative buckets, +Inf last; a metric that was
    not scraped is not in it.  ``pods`` is None when nobody counted the ready pods.
    """

    pods: int | None
    requests: int | None
    errors: int | None
    latency: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: NOTHING)

    @property
    def seen(self) -> int | None:
        """Return how many requests ended, by the best count there is; None without any."""
        if self.requests is not None:
            return self.requests
        return max((row[-1] for row in self.latency.values()), default=None)


@dataclass(frozen=True, slots=True)
class Reading:
    """The values of one metric of a policy in one window, a part for each of its queries.

    ``stable`` is empty for a threshold, which only asks about the canary.
    """

    canary: tuple[float, ...]
    stable: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """One closed interval (start, end] in seconds.

    A role is None, and ``missing`` says why, when the window holds no information.  ``weight`` is
    the percent of requests meant for the canary, None when it is not recorded.  ``unsupported`` has
    a sentence for each metric whose buckets cannot be compared, or whose query cannot be used.
    ``readings`` has the metrics of the policy that gave a number.
    """

    start: float
    end: float
    stable: RoleWindow | None
    canary: RoleWindow | None
    missing: str | None = None
    weight: float | None = None
    unsupported: Mapping[str, str] = field(default_factory=dict)
    readings: Mapping[str, Reading] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scrapes:
    """The raw series of one service, both revisions mixed, by what they count.

    Each entry of ``errors`` is a full count of the failures by itself; per pod the largest is taken,
    since engines count some failures in one and some in the other.  ``latency`` has the bucket series
    by metric name.
    """

    requests: Sequence[PodSeries] = ()
    errors: Sequence[Sequence[PodSeries]] = ()
    latency: Mapping[str, Sequence[PodSeries]] = field(default_factory=dict)


REVISION_LABEL = "modelops_revision"
Bounds = tuple[float, ...]
Values = Mapping[int, float]
"""Samples of one series by instant in milliseconds, as Prometheus rounds."""


def increase(values: Iterable[float | None]) -> int | None:
    """Return how much a counter grew: the sum of its positive steps, a drop counts the new value.

    None in *values* is a series that is not there, so it counts 0.  A value that is no finite number
    makes the whole result None.  The result is never negative.
    """
    found = growth(values)
    return None if found is None else round(found)


def growth(values: Iterable[float | None]) -> float | None:
    """Return the same before it is rounded, for sums of fractions."""
    steps = [0.0 if value is None else value for value in values]
    if not all(math.isfinite(step) for step in steps):
        return None
    return sum(after - before if after >= before else after for before, after in pairwise(steps))


def layouts(scrapes: Scrapes) -> dict[str, Bounds | str]:
    """Return by metric the buckets' upper bounds in seconds, ascending, +Inf last.

    A sentence stands instead where the pods of the two versions do not agree.  Metrics without a
    series are left out.
    """
    return {metric: _layout(metric, series) for metric, series in scrapes.latency.items() if series}


def align(
    scrapes: Scrapes,
    *,
    stable: str,
    canary: str,
    origin: float,
    until: float,
    window: float,
    step: float,
    bounds: Mapping[str, Bounds] = MappingProxyType({}),
) -> tuple[Window, ...]:
    """Return the closed windows between *origin* and *until*, aligned to multiples of *window*.

    *stable* and *canary* are revisions, *step* the distance of scrapes in seconds; samples lie at
    origin + i * step.  *bounds* are the frozen buckets by metric: others are unsupported.

    A pod without a sample at every scrape of a window is left out of it; a role with no pod left
    drops the window for both roles.
    """
    known, unsupported = _comparable(scrapes, bounds)
    roles = [_targets(scrapes, revision, known) for revision in (stable, canary)]
    out = []
    for instants in instants_of(origin, until, window, step):
        left, right = (_sum(_pods(role, instants, known)) for role in roles)
        start, end = instants[0] / 1000, instants[-1] / 1000
        if left and right:
            out.append(Window(start, end, left, right, unsupported=unsupported))
        else:
            out.append(Window(start, end, None, None, missing=NOT_SCRAPED, unsupported=unsupported))
    return tuple(out)


def history(
    scrapes: Scrapes,
    *,
    stable: str,
    origin: float,
    until: float,
    window: float,
    step: float,
) -> tuple[Mapping[str, RoleWindow], ...]:
    """Return stable's closed windows before the run, each by pod; a window without a pod is left out."""
    known, _ = _comparable(scrapes, {})
    targets = _targets(scrapes, stable, known)
    windows = (_pods(targets, instants, known) for instants in instants_of(origin, until, window, step))
    return tuple(pods for pods in windows if pods)


def total(pods: Iterable[RoleWindow]) -> RoleWindow | None:
    """Return the sum over the pods of a role; a count that one of them lacks is None or left out."""
    rows = tuple(pods)
    if not rows:
        return None
    shared = set.intersection(*(set(row.latency) for row in rows))
    return RoleWindow(
        pods=sum(row.pods or 1 for row in rows),
        requests=_add(row.requests for row in rows),
        errors=_add(row.errors for row in rows),
        latency={
            metric: tuple(map(sum, zip(*(row.latency[metric] for row in rows), strict=True)))
            for metric in sorted(shared)
        },
    )


@dataclass(frozen=True, slots=True)
class _Target:
    """The series of one scrape target, of which a pod may have several."""

    pod: str
    instants: frozenset[int]
    requests: Sequence[Values] | None
    errors: Sequence[Sequence[Values]]
    latency: Mapping[str, Mapping[float, Sequence[Values]]]


def _layout(metric: str, series: Sequence[PodSeries]) -> Bounds | str:
    by_target: dict[tuple[str, str], set[float]] = {}
    for one in series:
        by_target.setdefault(address(one), set()).add(float(one.labels["le"]))
    found = sorted({tuple(sorted(bounds)) for bounds in by_target.values()})
    if len(found) == 1:
        return found[0]
    return (
        f"{metric}: needs the same buckets on all pods of both versions, found {_print(found[0])} "
        f"and {_print(found[1])}; configure both alike"
    )


def _comparable(scrapes: Scrapes, frozen: Mapping[str, Bounds]) -> tuple[dict[str, Bounds], dict[str, str]]:
    """Return the metrics that can be counted with their buckets, and a sentence for each of the others."""
    known, unsupported = {}, {}
    for metric, found in layouts(scrapes).items():
        wanted = frozen.get(metric, found)
        if isinstance(found, str):
            unsupported[metric] = found
        elif found != wanted:
            unsupported[metric] = (
                f"{metric}: needs the buckets stable had before the run, {_print(wanted)}, "
                f"found {_print(found)}; configure both versions alike"
            )
        else:
            known[metric] = found
    return known, unsupported


def _print(bounds: Bounds | str) -> str:
    return bounds if isinstance(bounds, str) else " ".join(f"{bound:g}" for bound in bounds)


def instants_of(origin: float, until: float, window: float, step: float) -> Iterable[list[int]]:
    """Yield the instants of each closed window in milliseconds, both ends included."""
    for number in range(int((until - origin) // window)):
        start = origin + number * window
        yield [round(1000 * (start + i * step)) for i in range(round(window / step) + 1)]


def _targets(scrapes: Scrapes, revision: str, known: Mapping[str, Bounds]) -> list[_Target]:
    requests = _by_address(scrapes.requests, revision)
    errors = [_by_address(series, revision) for series in scrapes.errors]
    latency = {metric: _by_address(scrapes.latency[metric], revision) for metric in known}
    everything = [requests, *errors, *latency.values()]
    return [
        _Target(
            pod=address[0],
            instants=frozenset(
                t for family in everything for one in family.get(address, ()) for t, _ in keyed(one)
            ),
            requests=_values(requests.get(address, ())) if scrapes.requests else None,
            errors=[_values(family.get(address, ())) for family in errors],
            latency={metric: _by_bound(family.get(address, ())) for metric, family in latency.items()},
        )
        for address in sorted({address for family in everything for address in family})
    ]


def address(series: PodSeries) -> tuple[str, str]:
    """Return the pod and the scrape target of a series."""
    instance = series.labels.get("instance", "")
    return series.labels.get("pod", instance), instance


def _by_address(series: Iterable[PodSeries], revision: str) -> dict[tuple[str, str], list[PodSeries]]:
    out: dict[tuple[str, str], list[PodSeries]] = {}
    for one in series:
        if one.labels.get(REVISION_LABEL) == revision:
            out.setdefault(address(one), []).append(one)
    return out


def keyed(series: PodSeries) -> Iterable[tuple[int, float]]:
    """Yield (milliseconds, value), as the instants of windows are counted."""
    return ((round(1000 * t), value) for t, value in series.values)


def _values(series: Iterable[PodSeries]) -> list[Values]:
    return [dict(keyed(one)) for one in series]


def _by_bound(series: Iterable[PodSeries]) -> dict[float, list[Values]]:
    out: dict[float, list[Values]] = {}
    for one in series:
        out.setdefault(float(one.labels["le"]), []).append(dict(keyed(one)))
    return out


def _pods(
    targets: Sequence[_Target], instants: Sequence[int], known: Mapping[str, Bounds]
) -> dict[str, RoleWindow]:
    """Return the counts of each pod that was scraped at every instant.

    A target that was scraped without one of its series had that series at 0: children of a counter
    are born with their first event, and die with the container.
    """
    out: dict[str, list[RoleWindow | None]] = {}
    for target in targets:
        if not target.instants.isdisjoint(instants):
            out.setdefault(target.pod, []).append(_count(target, instants, known))
    whole = {pod: [row for row in rows if row] for pod, rows in out.items() if all(rows)}
    counted = {pod: total(rows) for pod, rows in whole.items()}
    return {pod: replace(row, pods=1) for pod, row in counted.items() if row}


def _count(target: _Target, instants: Sequence[int], known: Mapping[str, Bounds]) -> RoleWindow | None:
    if not target.instants.issuperset(instants):
        return None
    requests = _grown(target.requests or (), instants)
    errors = [_grown(series, instants) for series in target.errors]
    latency = {
        metric: [_grown(target.latency[metric].get(bound, ()), instants) for bound in bounds]
        for metric, bounds in known.items()
    }
    if None in (requests, *errors) or any(None in row for row in latency.values()):
        return None
    bad = max((count for count in errors if count is not None), default=0)
    return RoleWindow(
        pods=1,
        requests=requests if target.requests is not None else None,
        errors=min(bad, requests or 0) if target.requests is not None else None,
        latency={metric: _cumulative(row) for metric, row in latency.items()},
    )


def _grown(series: Iterable[Values], instants: Sequence[int]) -> int | None:
    counts = [increase(one.get(instant) for instant in instants) for one in series]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _cumulative(row: Sequence[int | None]) -> tuple[int, ...]:
    """Return the row made non-decreasing: a scrape may fall between two buckets of one observation."""
    return tuple(accumulate((count or 0 for count in row), max))


def _sum(pods: Mapping[str, RoleWindow]) -> RoleWindow | None:
    return total(pods.values())


def _add(counts: Iterable[int | None]) -> int | None:
    out = 0
    for count in counts:
        if count is None:
            return None
        out += count
    return out
