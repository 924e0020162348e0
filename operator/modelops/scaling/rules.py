"""What a service asks of its scaling, with the defaults filled in."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from modelops.api.quantities import parse_duration
from modelops.api.scaling import LoadMetric, LoadTarget, ScaleDown, ScaleUp, Scaling
from modelops.engines.base import Queries
from modelops.plan import Manifest, Reason
from modelops.scaling.calendar import Calendar, calendar
from modelops.scaling.load import Load, signals

TARGETS = {LoadMetric.QUEUED_REQUESTS: 5, LoadMetric.KV_CACHE_USE: 70}
"""What one pod should have, where that does not depend on the engine's limits.

The rest of the cache is for what arrives while a pod starts.  Requests wait in an engine that is full, so
five for each pod are a burst.
"""
FULL_PERCENT = 80
"""Share of an engine's concurrency that is the target of requests in flight."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast pods are added or taken away."""

    window: timedelta
    """How long the load must have asked for it without a break."""
    pods: int
    """Most pods in a period."""
    period: timedelta


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything in force for one service."""

    least: int
    most: int
    up: Rate
    down: Rate
    cooldown: timedelta
    loads: tuple[Load, ...] = ()
    """Empty: the clock alone decides, or nothing was placed that could be measured."""
    is_by_load: bool = True
    """Whether the load decides once it is known; else the clock alone does."""
    calendar: Calendar | None = None

    @property
    def longest(self) -> timedelta:
        """Return how far back the load is looked at."""
        return max(self.up.window, self.down.window)

    def to_status(self) -> list[Manifest]:
        """Return the loads with their targets, for people."""
        return [{"name": load.metric.value, "target": load.target} for load in self.loads]


@dataclass(frozen=True, slots=True)
class Engine:
    """What of the engine matters here."""

    name: str
    queries: Queries
    concurrency: int | None = None
    """Requests that one pod works on at a time.  None: not known."""


def least(scaling: Scaling | None) -> int:
    """Return the pods that always serve."""
    return max(1, scaling.min_replicas or 1) if scaling else 1


def is_by_load(scaling: Scaling | None) -> bool:
    """Return whether the load decides within bounds."""
    return scaling is not None and (scaling.max_replicas or 0) > least(scaling)


def is_decided(scaling: Scaling | None) -> bool:
    """Return whether anything but minReplicas decides."""
    return is_by_load(scaling) or (scaling is not None and scaling.schedule is not None)


def rules(service: str, scaling: Scaling, engine: Engine | None) -> Rules | Reason:
    """Return what is in force, or why it cannot be: then the number of pods stays.

    *engine* is None while nothing is placed.
    """
    loads = _loads(service, scaling, engine) if engine and is_by_load(scaling) else ()
    if isinstance(loads, Reason):
        return loads
    hours = calendar(service, scaling.schedule) if scaling.schedule else None
    if isinstance(hours, Reason):
        return hours
    up, down = scaling.scale_up or ScaleUp(), scaling.scale_down or ScaleDown()
    try:
        return Rules(
            least=least(scaling),
            most=_most(scaling, hours),
            up=_rate(up, window="30s", pods=4),
            down=_rate(down, window="5m", pods=1),
            cooldown=parse_duration(down.cooldown or "5m"),
            loads=loads,
            is_by_load=is_by_load(scaling),
            calendar=hours,
        )
    except ValueError as error:
        return Reason("Malformed", f"{service}: spec.scaling: {error}; correct it")


def _most(scaling: Scaling, hours: Calendar | None) -> int:
    """Return the most pods: where the clock alone decides, what its largest window asks for."""
    if scaling.max_replicas is not None:
        return max(scaling.max_replicas, least(scaling))
    return max(least(scaling), *(window.min_replicas for window in hours.hours)) if hours else least(scaling)


def _rate(given: ScaleUp | ScaleDown, *, window: str, pods: int) -> Rate:
    return Rate(
        parse_duration(given.stabilization_window or window),
        given.max_pods or pods,
        parse_duration(given.period or "1m"),
    )


def _loads(service: str, scaling: Scaling, engine: Engine) -> tuple[Load, ...] | Reason:
    asked = _asked(scaling, engine)
    found: list[Load] = []
    for one in asked:
        needed = signals(one.name, engine.queries)
        if needed is None:
            return _unmeasured(service, one.name, engine)
        target = one.target or _target(one.name, engine)
        if target is None:
            return Reason(
                "TargetNeeded",
                f"{service}: scaling by {one.name} needs a target, found none and no default for engine "
                f"{engine.name}; set what one pod should have in scaling.metrics",
            )
        found.append(Load(one.name, target, needed))
    return tuple(found)


def _asked(scaling: Scaling, engine: Engine) -> Sequence[LoadTarget]:
    if scaling.metrics:
        return scaling.metrics
    if scaling.metric:
        return (LoadTarget(name=scaling.metric, target=scaling.target),)
    usual = (LoadMetric.KV_CACHE_USE, LoadMetric.QUEUED_REQUESTS)
    if all(signals(metric, engine.queries) for metric in usual):
        return tuple(LoadTarget(name=metric) for metric in usual)
    return (LoadTarget(name=LoadMetric.REQUESTS_IN_FLIGHT),)


def _target(metric: LoadMetric, engine: Engine) -> int | None:
    if metric is LoadMetric.REQUESTS_IN_FLIGHT and engine.concurrency:
        return max(1, engine.concurrency * FULL_PERCENT // 100)
    return TARGETS.get(metric)


def _unmeasured(service: str, metric: LoadMetric, engine: Engine) -> Reason:
    known = [other.value for other in LoadMetric if signals(other, engine.queries)]
    found = f"{' and '.join(known)} alone; name one of those" if known else "none; leave maxReplicas out"
    return Reason(
        "MetricUnsupported",
        f"{service}: scaling by {metric} needs an engine that measures it, found {engine.name} with {found}",
    )
