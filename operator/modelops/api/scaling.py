"""How many pods serve: by a number, by load, by the clock; and what was decided."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from modelops.api.meta import Count, Instant, ListMap, ListSet, OpenStatus, Rule, Sentence, Spec, Word
from modelops.api.quantities import Duration

MAX_REPLICAS = 256

Replicas = Annotated[int, Field(ge=1, le=MAX_REPLICAS)]
LeastReplicas = Annotated[
    int,
    Field(ge=0, le=MAX_REPLICAS),
    Rule(
        "self >= 1",
        "without pods nothing holds a request until one has started; set at least 1",
    ),
]
Target = Annotated[int, Field(ge=1, le=100_000_000)]
TimeOfDay = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", min_length=5, max_length=5)]
Span = Annotated[
    Duration,
    Rule(
        "duration(self) >= duration('0s') && duration(self) <= duration('1h')",
        "this time is at most 1h; shorten it",
    ),
]
Period = Annotated[
    Duration,
    Rule(
        "duration(self) >= duration('15s') && duration(self) <= duration('15m')",
        "a period lasts from 15s to 15m, since load is read every 15s; correct it",
    ),
]


class LoadMetric(StrEnum):
    """What is counted as load."""

    QUEUED_REQUESTS = "QueuedRequests"
    REQUESTS_IN_FLIGHT = "RequestsInFlight"
    KV_CACHE_USE = "KVCacheUse"
    TOKENS_IN_FLIGHT = "TokensInFlight"


_KV_TARGET = "a share of the key-value cache is a percentage from 1 to 100; lower the target"


class LoadTarget(Spec):
    """One metric, and how much of it one pod should have."""

    rules: ClassVar = (
        Rule(
            "self.name != 'KVCacheUse' || !has(self.target) || self.target <= 100",
            _KV_TARGET,
            path=".target",
        ),
    )

    name: LoadMetric
    """QueuedRequests, RequestsInFlight, KVCacheUse or TokensInFlight."""
    target: Target | None = None
    """What one pod should have: waiting requests, requests, percent of its cache, or tokens.  Absent: 5
    waiting requests, 70 percent, four fifths of the engine's concurrency; for tokens it must be set."""


LoadTargets = Annotated[tuple[LoadTarget, ...], Field(min_length=1, max_length=4), ListMap(("name",))]


class ScaleUp(Spec):
    """How fast pods are added."""

    stabilization_window: Span | None = None
    """How long the load must have asked for more without a break.  Absent: 30s."""
    max_pods: Replicas | None = None
    """Most pods added in a period.  Absent: 4."""
    period: Period | None = None
    """Time that maxPods is for.  Absent: 1m."""


class ScaleDown(Spec):
    """How fast pods are taken away."""

    stabilization_window: Span | None = None
    """How long the load must have needed fewer without a break.  Absent: 5m."""
    max_pods: Replicas | None = None
    """Most pods taken away in a period.  Absent: 1."""
    period: Period | None = None
    """Time that maxPods is for.  Absent: 1m."""
    cooldown: Span | None = None
    """Least time after pods were added before any is taken away.  Absent: 5m."""


class Day(StrEnum):
    """A day of the week."""

    MON = "Mon"
    TUE = "Tue"
    WED = "Wed"
    THU = "Thu"
    FRI = "Fri"
    SAT = "Sat"
    SUN = "Sun"


class ScheduleWindow(Spec):
    """Hours in which more pods serve at least."""

    days: Annotated[tuple[Day, ...], Field(min_length=1, max_length=7), ListSet()] | None = None
    """Days on which it starts.  Absent: every day."""
    start: TimeOfDay
    """When it starts, by the clock on the wall, such as 08:00."""
    end: TimeOfDay
    """When it ends; not after start means on the next day."""
    min_replicas: Replicas
    """Pods that serve at least meanwhile."""


class Schedule(Spec):
    """Replicas by the clock."""

    time_zone: (
        Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$")]
        | None
    ) = None
    """Time zone of the IANA database, such as Europe/Berlin.  Absent: UTC."""
    windows: Annotated[tuple[ScheduleWindow, ...], Field(min_length=1, max_length=32)]
    """Hours with more pods; where several overlap the largest number counts."""


_HAS_LOAD = "has(self.metric) || has(self.metrics) || has(self.scaleUp) || has(self.scaleDown)"


class Scaling(Spec):
    """How many pods serve: a number, or with maxReplicas as many as the load needs."""

    rules: ClassVar = (
        Rule(
            "!has(self.maxReplicas) || self.maxReplicas >= (has(self.minReplicas) ? self.minReplicas : 1)",
            "maxReplicas must not be below minReplicas, 1 when absent; correct one of them",
            path=".maxReplicas",
        ),
        Rule(
            f"has(self.maxReplicas) || !({_HAS_LOAD})",
            "scaling by load needs to know where it ends; set maxReplicas",
            "FieldValueRequired",
            ".maxReplicas",
        ),
        Rule(
            "!has(self.metric) || !has(self.metrics)",
            "load is given either as one metric or as a list; remove metric or metrics",
            "FieldValueForbidden",
            ".metric",
        ),
        Rule(
            "!has(self.target) || has(self.metric)",
            "a target belongs to a metric; set metric beside it",
            "FieldValueForbidden",
            ".target",
        ),
        Rule(
            "!has(self.metric) || self.metric != 'KVCacheUse' || !has(self.target) || self.target <= 100",
            _KV_TARGET,
            path=".target",
        ),
        Rule(
            "!has(self.schedule) || !has(self.maxReplicas)"
            " || self.schedule.windows.all(w, w.minReplicas <= self.maxReplicas)",
            "a window of the schedule must not ask for more than maxReplicas; correct one of them",
            path=".schedule",
        ),
    )

    min_replicas: LeastReplicas | None = None
    """Pods that always serve; kubectl scale, HPA and KEDA read and write it, and need it to be set.
    Absent: 1."""
    max_replicas: Replicas | None = None
    """Pods at the most; above minReplicas the operator scales by load.  Absent: minReplicas."""
    metric: LoadMetric | None = None
    """Load to scale by; short for a list of one.  Absent: metrics decides."""
    target: Target | None = None
    """What one pod should have of the metric.  Absent: as in metrics."""
    metrics: LoadTargets | None = None
    """Loads to scale by; the one that needs the most pods counts.  Absent: KVCacheUse and QueuedRequests
    where the engine measures them, else RequestsInFlight."""
    scale_up: ScaleUp | None = None
    """How fast pods are added.  Absent: the defaults of its fields."""
    scale_down: ScaleDown | None = None
    """How fast pods are taken away.  Absent: the defaults of its fields."""
    schedule: Schedule | None = None
    """Replicas by the clock.  Absent: none."""


# --- status ------------------------------------------------------------------------------------------


class ScaleChange(OpenStatus):
    """One change of the number of pods."""

    at: Instant | None = None
    """When it was decided."""
    from_: Annotated[Count | None, Field(alias="from")] = None
    """Pods before."""
    to: Count | None = None
    """Pods after."""
    reason: Word | None = None
    """Reason code."""
    message: Sentence | None = None
    """Why, with the numbers."""


class TargetStatus(OpenStatus):
    """One metric that is in force."""

    name: Word | None = None
    """Name of the metric."""
    target: Count | None = None
    """What one pod should have."""


class ScalingStatus(OpenStatus):
    """How many pods are wanted by load and clock, and why."""

    replicas: Count | None = None
    """Pods that are wanted; a rollout shares them between its versions."""
    min_replicas: Count | None = None
    """Least pods now, by minReplicas and the schedule."""
    max_replicas: Count | None = None
    """Most pods."""
    metrics: Annotated[tuple[TargetStatus, ...], Field(max_length=4)] = ()
    """Loads that are scaled by, with the targets in force.  Absent: the clock alone decides."""
    reason: Word | None = None
    """Why it is this number, as a reason code."""
    message: Sentence | None = None
    """Why, as one sentence with the numbers at that time."""
    since: Instant | None = None
    """Since when the reason holds."""
    history: Annotated[tuple[ScaleChange, ...], Field(max_length=10)] = ()
    """The last 10 changes, oldest first."""
