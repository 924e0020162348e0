"""Load as the engines tell it, and how many pods it needs.

A metric that grows with the load (requests, tokens, used cache) needs as many pods as hold its sum over all
pods at the target each; that number does not depend on how many pods there are.  A queue does not grow with
the load: it is empty up to the point where the pods are full.  So it only tells that there are too few.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelops.api.scaling import LoadMetric
from modelops.engines.base import Queries

RUNNING, WAITING, CACHE, TOKENS = "running", "waiting", "cache", "tokens"
"""What is read of each pod: requests that are worked on, that wait, percent of the cache, tokens in it."""
TOLERANCE = 0.1
"""Load so far from what the pods should have changes nothing.  Source: default of the HPA controller."""
_ROUNDING = 1e-9

Values = Mapping[str, float]
"""What one pod said, by the names above."""


@dataclass(frozen=True, slots=True)
class Point:
    """What the pods said at one instant, by the pod's name; a pod without a sample is not in it."""

    at: datetime
    pods: Mapping[str, Values]


@dataclass(frozen=True, slots=True)
class Observed:
    """What Prometheus said about one service."""

    points: tuple[Point, ...] = ()
    """Oldest first, one each *step*; those without any sample are there too."""
    step: timedelta = timedelta(seconds=15)
    away_since: datetime | None = None
    """Since when it does not answer; None: it does."""
    is_named: bool = True
    """Whether the series tell their pod."""


@dataclass(frozen=True, slots=True)
class Load:
    """A metric to scale by, what one pod should have of it, and what has to be read for it."""

    metric: LoadMetric
    target: int
    signals: frozenset[str]
    """A pod without all of them has no sample."""


def signals(metric: LoadMetric, queries: Queries) -> frozenset[str] | None:
    """Return what has to be read of an engine with these metrics; None: it does not measure the load."""
    measured = measured_by(queries)
    match metric:
        case LoadMetric.QUEUED_REQUESTS:
            needed = {RUNNING, WAITING}
        case LoadMetric.REQUESTS_IN_FLIGHT:
            needed = {RUNNING} | ({WAITING} & measured)
        case LoadMetric.KV_CACHE_USE:
            needed = {CACHE}
        case LoadMetric.TOKENS_IN_FLIGHT:
            needed = {TOKENS}
    return frozenset(needed) if needed <= measured else None


def measured_by(queries: Queries) -> frozenset[str]:
    """Return what an engine with these metrics tells."""
    tells_tokens = queries.tokens_used or (queries.kv_usage and queries.pool)
    known = {
        RUNNING: queries.running,
        WAITING: queries.waiting,
        CACHE: queries.kv_usage,
        TOKENS: tells_tokens,
    }
    return frozenset(name for name, series in known.items() if series)


def sampled(point: Point, load: Load) -> Mapping[str, Values]:
    """Return the pods that said all that the load is made of."""
    return {pod: values for pod, values in point.pods.items() if load.signals <= values.keys()}


def amount(point: Point, load: Load) -> float:
    """Return the load of all pods, in the unit of its target."""
    pods = sampled(point, load).values()
    if load.metric is LoadMetric.QUEUED_REQUESTS:
        return sum(values[WAITING] for values in pods)
    return sum(values[name] for values in pods for name in load.signals)


def window(points: Sequence[Point], span: timedelta, step: timedelta) -> Sequence[Point] | None:
    """Return the last points that cover *span*; None: there are not so many yet."""
    count = math.floor(span / step) + 1
    return points[-count:] if len(points) >= count else None


def is_whole(points: Iterable[Point], load: Load) -> bool:
    """Return whether every point has a sample, and no pod is missing between two of its own."""
    found: dict[str, list[int]] = {}
    for number, point in enumerate(points):
        pods = sampled(point, load)
        if not pods:
            return False
        for pod in pods:
            found.setdefault(pod, []).append(number)
    return all(at[-1] - at[0] + 1 == len(at) for at in found.values())


# --- how many pods -----------------------------------------------------------------------------------


def pods_at_least(point: Point, load: Load, current: int) -> int:
    """Return how many pods the load needs when that is more than *current*, else *current*.

    A pod without a sample counts as one without load.
    """
    if load.metric is LoadMetric.QUEUED_REQUESTS:
        return max(current, _for_queue(point, load))
    total = amount(point, load)
    if total <= current * load.target * (1 + TOLERANCE):
        return current
    return max(current, _ceil(total / load.target))


def pods_at_most(point: Point, load: Load, current: int, *, is_alone: bool, is_rolling: bool) -> int:
    """Return how many pods would do when that is fewer than *current*, else *current*.

    Of a queue: while a request waits, no fewer.  When none does another load says how many; *is_alone* there
    is none, so one fewer is tried, but not while a rollout has more pods at work than will stay.
    """
    total = amount(point, load)
    if load.metric is not LoadMetric.QUEUED_REQUESTS:
        would_do = current if total >= current * load.target * (1 - TOLERANCE) else _ceil(total / load.target)
        return min(current, would_do)
    if total > 0 or (is_alone and is_rolling):
        return current
    return current - 1 if is_alone else 0


def _for_queue(point: Point, load: Load) -> int:
    """Return the pods for a queue that is too long, else 0.

    So long a queue says that the pods are full: what they run, and the target that may wait, is all that
    they hold.  So with n pods running + waiting needs n (running + waiting) / (running + n target).
    """
    pods = sampled(point, load).values()
    count = len(pods)
    running, waiting = (sum(values[name] for values in pods) for name in (RUNNING, WAITING))
    if waiting <= count * load.target * (1 + TOLERANCE):
        return 0
    return _ceil(count * (running + waiting) / (running + count * load.target))


def _ceil(pods: float) -> int:
    """Round up, but not for a rounding error of the sum."""
    return math.ceil(pods - _ROUNDING)
