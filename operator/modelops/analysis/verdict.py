"""What the judge says about a rollout, in numbers and in one sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

HOLD_AT = 4.0
STEP_BACK_AT = 20.0
CERTAIN = 1e6
"""Evidence at which a single window may roll back."""


class Outcome(StrEnum):
    """What should happen; the state machine decides how."""

    ROLLBACK = "Rollback"
    PROMOTE = "Promote"
    INCONCLUSIVE = "Inconclusive"
    CONTINUE = "Continue"


class Form(StrEnum):
    """How a number is shown."""

    SHARE = "share"
    VALUE = "value"

    def show(self, number: float | None) -> str:
        """Return *number* for people."""
        if self is Form.SHARE:
            return percent(number)
        return "no value" if number is None else f"{number:.4g}"


class Cause(StrEnum):
    """Why; the codes never change once released."""

    CERTIFICATE_COMPLETE = "CertificateComplete"
    REGRESSION_EVIDENCE = "RegressionEvidence"
    UNDECIDED = "Undecided"
    WARMING_UP = "WarmingUp"
    NO_DATA = "NoData"
    METRICS_UNAVAILABLE = "MetricsUnavailable"
    MAX_DURATION = "MaxDuration"
    BASELINE_UNHEALTHY = "BaselineUnhealthy"
    NOT_COMPARABLE = "NotComparable"
    NO_RESOLUTION = "NoResolution"
    INVALID_QUERY = "InvalidQuery"
    THRESHOLD_FAILED = "ThresholdFailed"
    THRESHOLDS_KEPT = "ThresholdsKept"


@dataclass(frozen=True, slots=True)
class MetricVerdict:
    """One tested share: errors (no boundary), or requests over ``boundary`` seconds.

    Shares are 0..1 and None without requests.  ``weight`` is 0 for a metric that is only reported.
    ``certificate`` and ``promote_at`` are None for a tail, of which no certificate is asked.
    A latency metric without a boundary has no numbers at all.  ``earlier`` are the boundaries in
    seconds by which the first of these requests were counted, before stable got too fast or too slow
    for them.  ``limit`` is the fixed share that the canary was held to, None beside stable.  A metric of a
    policy's own may have values instead of shares; one that is held to bounds has a ``rule``, which tells
    them and how often they were broken, and no evidence: ``has_broken`` is whether that was too often.
    """

    name: str
    boundary: float | None
    weight: float
    n_canary: int
    n_stable: int
    canary: float | None
    stable: float | None
    regression: float
    robust: float
    certificate: float | None
    promote_at: float | None
    earlier: tuple[float, ...] = ()
    limit: float | None = None
    form: Form = Form.SHARE
    rule: str = ""
    has_broken: bool = False

    @property
    def label(self) -> str:
        """Return how people call it: ``ttft over 0.5s``, ``ttft over 0.5s, then 0.25s``."""
        return self.name + self.over

    @property
    def over(self) -> str:
        """Return what the shares are over, with a blank before it; nothing for errors."""
        bounds = ", then ".join(
            f"{bound:g}s" for bound in (*self.earlier, self.boundary) if bound is not None
        )
        return f" over {bounds}" if bounds else ""

    def describe(self) -> str:
        """Return both shares and both counts; or the canary's and its limit."""
        if self.rule:
            return f"{self.label} {self.form.show(self.canary)}, {self.rule}"
        if self.limit is not None:
            return f"{self.label} {percent(self.canary)} (n={self.n_canary}), limit {percent(self.limit)}"
        shares = f"{self.form.show(self.canary)} vs {self.form.show(self.stable)}"
        return f"{self.label} {shares} (n={self.n_canary}, {self.n_stable})"

    def to_status(self) -> dict[str, Any]:
        """Return plain data with camelCase keys."""
        out = {
            "name": self.name,
            "boundary": None if self.boundary is None else f"{self.boundary:g}",
            "canary": self.form.show(self.canary) + self.over,
            **self._beside(),
            "weight": brief(self.weight),
            "regression": brief(self.regression),
            "robust": brief(self.robust),
            "certificate": None if self.certificate is None else brief(self.certificate),
            "promoteAt": self.promote_at,
            "verdict": self._verdict(),
        }
        return {key: value for key, value in out.items() if value is not None}

    def _beside(self) -> dict[str, Any]:
        """Return what the canary's share is held to, and the counts."""
        if self.rule:
            return {"rule": self.rule, "n": {"canary": self.n_canary}}
        if self.limit is not None:
            return {"limit": percent(self.limit) + self.over, "n": {"canary": self.n_canary}}
        return {
            "stable": self.form.show(self.stable) + self.over,
            "n": {"canary": self.n_canary, "stable": self.n_stable},
        }

    def _verdict(self) -> str:
        if self.robust >= STEP_BACK_AT or self.regression >= CERTAIN or self.has_broken:
            return "Worse"
        if (
            self.certificate is not None
            and self.promote_at is not None
            and self.certificate >= self.promote_at
        ):
            return "GoodEnough"
        return "Undecided"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement after the last window.

    ``evidence`` reads "37 to 1 against the canary being as good"; ``robust`` is the same with the
    worst window left out, and what steps are decided by; ``certificate`` is how sure it is that no
    metric is unacceptable.  ``until`` is the end of the last window that was used, None before the
    first.  ``requests`` are the canary's that every enforced metric has judged; ``beyond`` is the
    estimate that is not acceptable, or the metric without one, None when all are within.  ``carry``
    continues the run when its windows are gone.
    """

    name: Outcome
    reason: Cause
    message: str
    evidence: float = 1.0
    robust: float = 1.0
    certificate: float = 1.0
    rollback_at: float = 100.0
    promote_at: float = 20.0
    metrics: tuple[MetricVerdict, ...] = ()
    until: float | None = None
    counted_seconds: float = 0.0
    has_canary_request: bool = False
    is_used: bool = False
    requests: int = 0
    beyond: str | None = None
    is_stable_healthy: bool = True
    carry: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def to_status(self) -> dict[str, Any]:
        """Return what ``status.rollout.analysis`` shows; equal verdicts give equal data."""
        return {
            "verdict": self.name.value,
            "reason": self.reason.value,
            "message": self.message,
            "evidence": {
                "regression": brief(self.evidence),
                "robust": brief(self.robust),
                "holdAt": HOLD_AT,
                "stepBackAt": STEP_BACK_AT,
                "rollbackAt": self.rollback_at,
            },
            "certificate": {
                "value": brief(self.certificate),
                "promoteAt": self.promote_at,
            },
            "countedSeconds": self.counted_seconds,
            "metrics": [row.to_status() for row in self.metrics],
        }


def brief(value: float) -> float:
    """Return *value* with four significant digits."""
    return float(f"{value:.4g}")


def percent(share: float | None) -> str:
    """Return a share (0..1) for people; two significant digits below 10 %."""
    if share is None:
        return "no requests"
    hundredth = 100 * share
    return f"{hundredth:.2g}%" if hundredth < 9.95 else f"{hundredth:.3g}%"


def odds(value: float) -> str:
    """Return an e-value as odds: ``590:1``."""
    if value >= 1e6:
        return f"{value:.2g}:1".replace("e+0", "e").replace("e+", "e")
    return f"{value:.3g}:1" if value < 1000 else f"{value:.0f}:1"


def shares(rows: Sequence[MetricVerdict]) -> str:
    """Return the shares of all rows in one line."""
    return ", ".join(row.describe() for row in rows)
