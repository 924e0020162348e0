"""Read recorded samples: counters per role at each scrape become closed windows, and nothing is guessed.

The shape is in research/rollouts.md section 7: a sample that is missing leaves its windows without
information.  A role may also hold the policy's own metrics by name: counters of a ratio as {bad, total}, of a
score as {sum, count}, of events as a number; a level or the value of a threshold as a number.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, TypeGuard

from modelops.analysis import policy
from modelops.analysis.frozen import HISTORY_WINDOWS, Frozen, History, freeze
from modelops.analysis.policy import Refused
from modelops.analysis.readings import COUNTED, histograms, read_metrics
from modelops.analysis.samples import NOT_SCRAPED, Bounds, Reading, RoleWindow, Window
from modelops.analysis.settings import ERRORS, LATENCIES, Custom, Kind, Settings

INPUT = frozenset({"policy", "intervalSeconds", "startedAt", "buckets", "baseline", "samples"})
SAMPLE = frozenset({"t", "weight", "stable", "canary"})
ROLES = ("stable", "canary")
PARTS = {Kind.RATIO: ("bad", "total"), Kind.SCORE: ("sum", "count")}
"""What a role records of the policy's own metrics that have several parts."""
HOUR = 3600
LONGEST = 31 * 24 * HOUR


@dataclass(frozen=True, slots=True)
class _Role:
    """Counters of one role at one scrape; None is not scraped."""

    pods: int | None
    requests: int | None
    errors: int | None
    latency: Mapping[str, tuple[int, ...]]
    own: Mapping[str, tuple[float, ...]]
    """Values of the policy's own metrics, a part for each query."""


@dataclass(frozen=True, slots=True)
class _Sample:
    t: int
    weight: float | None
    stable: _Role | None
    canary: _Role | None


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording that can be judged: windows in seconds from when the candidate was ready."""

    settings: Settings
    frozen: Frozen
    windows: tuple[Window, ...]

    @property
    def has_weights(self) -> bool:
        """Tell whether any window knows what share the canary was meant to get."""
        return bool(self.settings.steps) and any(window.weight is not None for window in self.windows)


def load(document: object) -> Recording:
    """Return the windows, the frozen history and the settings of a recording.

    Raises:
        Refused: see ``replay``.
    """
    whole = _object(document, "input")
    _only(whole, INPUT, "input")
    interval = _positive(whole.get("intervalSeconds"), "intervalSeconds")
    _check_instant(whole.get("startedAt"))
    bounds = _bounds(whole.get("buckets"))
    built_in = tuple(metric for metric in bounds if metric in LATENCIES)
    settings = policy.settings(_object(whole.get("policy", {}), "policy"), built_in)
    _only(bounds, (*LATENCIES, *histograms(settings.metrics)), "buckets")
    own = read_metrics(settings.metrics)
    window = settings.window.total_seconds()
    if window % interval:
        raise Refused(f"intervalSeconds: needs a divisor of the window of {window:g} s, found {interval}")
    samples = _samples(whole.get("samples"), interval, Shape(bounds, own))
    closed = _windows(samples, own, window=int(window), interval=interval)
    past = [w.stable for w in closed if -HOUR <= w.start < 0 and w.stable]
    spread, dispersions = _baseline(whole.get("baseline"), bounds)
    frozen = freeze(
        History(tuple(past[-HISTORY_WINDOWS:]), bounds),
        spread=spread,
        dispersions=dispersions,
    )
    return Recording(settings, frozen, tuple(w for w in closed if w.start >= 0))


def _windows(
    samples: Sequence[_Sample], own: Mapping[str, Custom], *, window: int, interval: int
) -> list[Window]:
    """Return every aligned window between the first and the last sample."""
    by_time = {sample.t: sample for sample in samples}
    first, last = samples[0].t, samples[-1].t
    weights = _weights(samples)
    out = []
    for start in range(-(-first // window) * window, last - window + 1, window):
        instants = range(start, start + window + 1, interval)
        found = [by_time.get(t) for t in instants]
        stable = _difference([sample.stable if sample else None for sample in found])
        canary = _difference([sample.canary if sample else None for sample in found])
        is_whole = stable is not None and (canary is not None or start < 0)
        out.append(
            Window(
                start,
                start + window,
                stable if is_whole else None,
                canary if is_whole else None,
                missing=None if is_whole else NOT_SCRAPED,
                weight=_weight_in(weights, start, start + window),
                readings=_readings(found, own),
            )
        )
    return out


def _readings(found: Sequence[_Sample | None], own: Mapping[str, Custom]) -> dict[str, Reading]:
    """Return what the policy's own metrics gave; one that was not recorded all the time is missing."""
    out = {}
    for name, custom in own.items():
        canary = _parts(name, custom, [sample.canary if sample else None for sample in found])
        stable = _parts(name, custom, [sample.stable if sample else None for sample in found])
        if canary is not None and custom.kind is Kind.THRESHOLD:
            out[name] = Reading(canary)
        elif canary is not None and stable is not None:
            out[name] = Reading(canary, stable)
    return out


def _parts(name: str, custom: Custom, roles: Sequence[_Role | None]) -> tuple[float, ...] | None:
    """Return the growth of counters over the window, or the level at its end."""
    rows = [role.own.get(name) if role else None for role in roles]
    if custom.kind not in COUNTED:
        return rows[-1]
    known = [row for row in rows if row is not None]
    if len(known) != len(rows) or any(b < a for x, y in pairwise(known) for a, b in zip(x, y, strict=True)):
        return None
    return tuple(last - first for first, last in zip(known[0], known[-1], strict=True))


def _weights(samples: Sequence[_Sample]) -> list[tuple[int, float]]:
    return [(sample.t, sample.weight) for sample in samples if sample.weight is not None]


def _weight_in(weights: Sequence[tuple[int, float]], start: int, end: int) -> float | None:
    """Return the least weight in force from *start* up to *end*; None before the first one known."""
    known = [weight for t, weight in weights if t <= start][-1:]
    known += [weight for t, weight in weights if start < t < end]
    return min(known, default=None)


def _difference(roles: Sequence[_Role | None]) -> RoleWindow | None:
    """Return what a role did between the first and the last scrape; None when one is missing or dropped."""
    rows = [role for role in roles if role is not None]
    if len(rows) != len(roles) or any(_falls(a, b) for a, b in pairwise(rows)):
        return None
    first, last = rows[0], rows[-1]
    metrics = [metric for metric in first.latency if all(metric in row.latency for row in rows)]
    has_errors = all(row.requests is not None and row.errors is not None for row in rows)
    return RoleWindow(
        pods=first.pods,
        requests=(last.requests or 0) - (first.requests or 0) if has_errors else None,
        errors=(last.errors or 0) - (first.errors or 0) if has_errors else None,
        latency={
            metric: tuple(b - a for a, b in zip(first.latency[metric], last.latency[metric], strict=True))
            for metric in metrics
        },
    )


def _falls(before: _Role, after: _Role) -> bool:
    """Tell whether any counter is lower than before, which is a restart."""
    pairs: list[tuple[int | None, int | None]] = [
        (before.requests, after.requests),
        (before.errors, after.errors),
    ]
    for metric, row in before.latency.items():
        pairs += zip(row, after.latency.get(metric, row), strict=True)
    return any(a is not None and b is not None and b < a for a, b in pairs)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the roles of a recording may hold beside requests and errors."""

    bounds: Mapping[str, Bounds]
    own: Mapping[str, Custom]


def _samples(value: object, interval: int, shape: Shape) -> list[_Sample]:
    rows = value if isinstance(value, list) else []
    if not rows:
        raise Refused("samples: needs a list with at least one sample, found none")
    out: list[_Sample] = []
    for number, row in enumerate(rows):
        sample = _sample(_object(row, f"samples[{number}]"), f"samples[{number}]", interval, shape)
        if out and sample.t <= out[-1].t:
            raise Refused(f"samples[{number}].t: needs a time after {out[-1].t}, found {sample.t}")
        out.append(sample)
    return out


def _sample(row: Mapping[str, Any], where: str, interval: int, shape: Shape) -> _Sample:
    _only(row, SAMPLE, where)
    t, weight = row.get("t"), row.get("weight")
    if not isinstance(t, int) or isinstance(t, bool) or t % interval:
        raise Refused(f"{where}.t: needs a multiple of {interval} seconds, found {t!r}")
    if abs(t) > LONGEST:
        raise Refused(f"{where}.t: needs seconds from startedAt within 31 days, found {t}")
    if weight is not None and (not _is_number(weight) or not 0 <= weight <= 100):
        raise Refused(f"{where}.weight: needs a percentage within 0..100, found {weight!r}")
    stable, canary = (_role(row.get(role), f"{where}.{role}", shape) for role in ROLES)
    return _Sample(t, weight, stable, canary)


def _role(value: object, where: str, shape: Shape) -> _Role | None:
    if value is None:
        return None
    role = _object(value, where)
    _only(role, {"pods", "requests", "errors", *shape.bounds, *shape.own}, where)
    requests, errors = _count(role, "requests", where), _count(role, "errors", where)
    if requests is not None and errors is not None and errors > requests:
        raise Refused(f"{where}.errors: needs at most the {requests} requests, found {errors}")
    latency = {
        metric: _row(role[metric], f"{where}.{metric}", len(known))
        for metric, known in shape.bounds.items()
        if role.get(metric) is not None
    }
    own = {
        name: _own(role[name], custom, f"{where}.{name}")
        for name, custom in shape.own.items()
        if role.get(name) is not None
    }
    return _Role(_count(role, "pods", where), requests, errors, latency, own)


def _own(value: object, custom: Custom, where: str) -> tuple[float, ...]:
    """Return the values of a policy's own metric: an object for a ratio or a score, else a number."""
    parts = PARTS.get(custom.kind)
    if parts is None:
        return (_finite(value, where),)
    given = _object(value, where)
    _only(given, parts, where)
    return tuple(_finite(given.get(part), f"{where}.{part}") for part in parts)


def _finite(value: object, where: str) -> float:
    if not _is_number(value) or not math.isfinite(value):
        raise Refused(f"{where}: needs a number, found {value!r}")
    return float(value)


def _count(role: Mapping[str, Any], field: str, where: str) -> int | None:
    value = role.get(field)
    if value is None:
        return None
    if not _is_count(value):
        raise Refused(f"{where}.{field}: needs a whole number from 0 up, found {value!r}")
    return int(value)


def _row(value: object, where: str, length: int) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) != length:
        found = f"{len(value)} counts" if isinstance(value, list) else repr(value)
        raise Refused(f"{where}: needs {length} counts, one for each bucket, found {found}")
    for number, count in enumerate(value):
        if not _is_count(count) or (number and count < value[number - 1]):
            raise Refused(f"{where}[{number}]: needs cumulative counts that never fall, found {count!r}")
    return tuple(int(count) for count in value)


def _bounds(value: object) -> dict[str, Bounds]:
    out: dict[str, Bounds] = {}
    for metric, row in _object({} if value is None else value, "buckets").items():
        where = f"buckets.{metric}"
        if not isinstance(row, list) or not row or row[-1] != "+Inf":
            raise Refused(f"{where}: needs bounds as Prometheus writes them, the last +Inf, found {row!r}")
        bounds = tuple(_bound(text, f"{where}[{number}]") for number, text in enumerate(row))
        if list(bounds) != sorted(set(bounds)):
            raise Refused(f"{where}: needs ascending bounds, found {', '.join(map(str, row))}")
        out[metric] = bounds
    return out


def _bound(text: object, where: str) -> float:
    try:
        bound = float(text) if isinstance(text, str) else math.nan
    except ValueError:
        bound = math.nan
    if not bound > 0:
        raise Refused(f"{where}: needs a bound above 0 as a string, found {text!r}")
    return bound


def _baseline(value: object, bounds: Mapping[str, Bounds]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the spread between pods and the dispersion by metric, as far as they are given."""
    baseline = _object({} if value is None else value, "baseline")
    _only(baseline, {"podSpread", "dispersion"}, "baseline")
    spread = baseline.get("podSpread")
    if _is_number(spread):
        spread = dict.fromkeys(bounds, spread)
    return (
        _by_metric(spread, bounds, "baseline.podSpread", least=0.0),
        _by_metric(
            baseline.get("dispersion"),
            (ERRORS, *bounds),
            "baseline.dispersion",
            least=1.0,
        ),
    )


def _by_metric(value: object, known: Iterable[str], where: str, *, least: float) -> dict[str, float]:
    given = _object({} if value is None else value, where)
    _only(given, set(known), where)
    for metric, number in given.items():
        if not _is_number(number) or not least <= number < math.inf:
            raise Refused(f"{where}.{metric}: needs a number from {least:g} up, found {number!r}")
    return {metric: float(number) for metric, number in given.items()}


def _check_instant(value: object) -> None:
    if value is None:
        return
    try:
        is_aware = isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        is_aware = False
    if not is_aware:
        raise Refused(f"startedAt: needs an RFC 3339 time with its zone, found {value!r}")


def _positive(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise Refused(f"{where}: needs whole seconds above 0, found {value!r}")
    return value


def _object(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Refused(f"{where}: needs an object, found {type(value).__name__}")
    return value


def _only(value: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise Refused(f"{where}.{unknown[0]}: unknown field; known are {', '.join(sorted(known))}")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
