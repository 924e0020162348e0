"""The settings a rollout is judged with: margins, budgets, metrics and times, all with defaults."""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum


class Mode(StrEnum):
    """What a metric may do: decide, only be shown, or nothing."""

    ENFORCE = "Enforce"
    REPORT = "Report"
    OFF = "Off"


class Kind(StrEnum):
    """What a metric of a policy's own counts."""

    HISTOGRAM = "histogram"
    RATIO = "ratio"
    COUNTER = "counter"
    GAUGE = "gauge"
    SCORE = "score"
    THRESHOLD = "threshold"


@dataclass(frozen=True, slots=True)
class Custom:
    """A metric of a policy's own.

    ``queries`` are its parts in order: ratio (bad, total), score (sum, count), else one.  The margins are
    changes that are tolerated and unacceptable; with ``is_points`` they are added to stable's share, else
    they multiply it.  ``least`` and ``most`` bound a threshold, of whose failing windows ``failure_limit``
    are tolerated, in a row if ``is_consecutive``.
    """

    kind: Kind
    queries: tuple[str, ...]
    tolerated: float = 0.0
    unacceptable: float = 0.0
    is_points: bool = False
    is_higher_better: bool = False
    least: float | None = None
    most: float | None = None
    failure_limit: int = 0
    is_consecutive: bool = False


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of the judge: ``errors``, a latency histogram by its short name, or one of a policy's own.

    The weight is relative to the other enforced metrics.
    """

    name: str
    mode: Mode = Mode.ENFORCE
    weight: float = 1.0
    custom: Custom | None = None

    @property
    def is_threshold(self) -> bool:
        """Tell whether it is held to bounds, so that it has no part in the evidence."""
        return self.custom is not None and self.custom.kind is Kind.THRESHOLD

    @property
    def is_read(self) -> bool:
        """Tell whether its numbers are values of queries, and no buckets."""
        return self.custom is not None and self.custom.kind is not Kind.HISTOGRAM


class Baseline(StrEnum):
    """What the canary is compared with."""

    STABLE = "Stable"
    """The stable version, in the same window."""
    NONE = "None"
    """Nothing beside it: fixed limits, since its requests are not like stable's."""


ERRORS = "errors"
LATENCIES = ("ttft", "tpot", "e2e")
LLM = (Metric(ERRORS), Metric("ttft"), Metric("tpot"))
PREDICTIVE = (Metric(ERRORS), Metric("e2e"))


@dataclass(frozen=True, slots=True)
class LatencyMargin:
    """How much slower is tolerated, and from where on it must not be promoted (0.10 is 10 %)."""

    max_regression: float = 0.10
    unacceptable: float = 0.30


@dataclass(frozen=True, slots=True)
class ErrorMargin:
    """Relative growth of the error share that is tolerated, and absolute shares (0..1).

    Below ``ignore_below`` errors never roll back; below ``slo`` they are good enough to promote.
    """

    max_regression: float = 0.25
    unacceptable: float = 1.0
    ignore_below: float = 0.005
    slo: float = 0.01


@dataclass(frozen=True, slots=True)
class Confidence:
    """The two budgets: P(equal version rolled back), P(unacceptable version promoted) per metric."""

    false_rollback: float = 0.01
    missed_regression: float = 0.05


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``spec: {}`` of a RolloutPolicy means to the judge, for a language model.

    ``steps`` are canary weights in percent, ascending; 100 is implied.
    """

    window: timedelta = timedelta(minutes=1)
    warmup: timedelta = timedelta(minutes=2)
    latency: LatencyMargin = field(default_factory=LatencyMargin)
    errors: ErrorMargin = field(default_factory=ErrorMargin)
    confidence: Confidence = field(default_factory=Confidence)
    metrics: tuple[Metric, ...] = LLM
    no_data_after: timedelta = timedelta(minutes=10)
    max_duration: timedelta = timedelta(hours=1)
    min_dwell: timedelta = timedelta(minutes=2)
    steps: tuple[int, ...] = (5, 10, 25, 50)
    baseline: Baseline = Baseline.STABLE

    @property
    def rollback_at(self) -> float:
        """Return the evidence that rolls back (100 for a budget of 1 %)."""
        return 1 / self.confidence.false_rollback

    @property
    def promote_at(self) -> float:
        """Return the certificate that promotes (20 for a budget of 5 %)."""
        return 1 / self.confidence.missed_regression

    @property
    def measured(self) -> tuple[Metric, ...]:
        """Return the metrics that are not switched off."""
        return tuple(metric for metric in self.metrics if metric.mode is not Mode.OFF)

    def weight(self, name: str) -> float:
        """Return the share of the evidence that metric *name* has: 0 unless it is enforced."""
        enforced = {
            metric.name: metric.weight
            for metric in self.metrics
            if metric.mode is Mode.ENFORCE and not metric.is_threshold
        }
        total = sum(enforced.values())
        return enforced.get(name, 0.0) / total if total else 0.0
