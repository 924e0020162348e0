"""Decide about a canary from the windows of its run: roll back, promote, or neither yet.

The canary is compared with stable in the same window, so weather that hits both cancels.  The
evidence is anytime-valid: it may be looked at after every window without inflating the error rates.

Source: research/rollouts.md section 5.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelops.analysis.frozen import Frozen
from modelops.analysis.ledger import COMPARABLE_LOAD, Era, Last, Ledger, Span
from modelops.analysis.rows import rows_of
from modelops.analysis.samples import Window
from modelops.analysis.settings import ERRORS, Mode, Settings
from modelops.analysis.verdict import (
    CERTAIN,
    HOLD_AT,
    Cause,
    MetricVerdict,
    Outcome,
    Verdict,
    odds,
    shares,
)


def judge(
    settings: Settings,
    frozen: Frozen,
    windows: Sequence[Window],
    *,
    started_at: float,
    at_last_step: bool,
    dwell_served: bool,
    paused: Sequence[Span] = (),
    earlier: Sequence[Era] = (),
    carry: Mapping[str, Any] | None = None,
    switched_at: float | None = None,
) -> Verdict:
    """Return the verdict after *windows*, which are closed, ascending, and start with the run's first.

    *started_at* is when the candidate became ready: the warm-up counts from there.  *dwell_served*
    is whether the last step has had its dwell.  In *paused* intervals evidence counts and the clock
    stands.  *earlier* has settings no longer in force, oldest first.  *carry*, of a verdict of this
    run, is used when some of the windows it knew are gone.  *switched_at* is when the candidate got all
    requests: windows from then on are judged by fixed limits.

    Law: the same arguments give the same verdict, bit for bit.
    """
    ledger = Ledger(settings, frozen, started_at, switched_at=switched_at)
    if carry and carry.get("until") is not None and _known(windows, carry["until"], ledger) < carry["used"]:
        ledger.resume(carry)
        windows = [window for window in windows if window.end > carry["until"]]
    for window in windows:
        in_force = next((era.settings for era in earlier if window.end < era.until), settings)
        is_counted = not any(start < window.end and window.start < end for start, end in paused)
        ledger.add(window, in_force, is_counted=is_counted)
    return decide(ledger, at_last_step=at_last_step, dwell_served=dwell_served)


def decide(ledger: Ledger, *, at_last_step: bool, dwell_served: bool) -> Verdict:
    """Return the verdict that the evidence in *ledger* stands for."""
    facts = _weigh(ledger)
    outcome, cause = _outcome(facts, ledger, at_last_step=at_last_step, dwell_served=dwell_served)
    return Verdict(
        outcome,
        cause,
        _message(outcome, cause, facts, ledger),
        evidence=facts.evidence,
        robust=facts.robust,
        certificate=facts.certificate,
        rollback_at=ledger.settings.rollback_at,
        promote_at=ledger.settings.promote_at,
        metrics=facts.rows,
        until=ledger.until,
        counted_seconds=ledger.counted_seconds,
        has_canary_request=ledger.last is Last.USED and ledger.has_canary_request,
        is_used=ledger.last is Last.USED,
        requests=facts.requests,
        beyond=facts.beyond,
        is_stable_healthy=not ledger.is_stable_unhealthy,
        carry=ledger.to_carry(),
    )


@dataclass(frozen=True, slots=True)
class _Facts:
    """The evidence of all metrics put together."""

    rows: tuple[MetricVerdict, ...]
    enforced: tuple[MetricVerdict, ...]
    unresolved: tuple[str, ...]
    """A sentence for each enforced metric that can never decide."""
    invalid: tuple[str, ...]
    """A sentence for each enforced metric of the policy's own whose query cannot be used."""
    thresholds: tuple[MetricVerdict, ...]
    """Enforced metrics that are held to bounds."""
    is_complete: bool
    """Whether every enforced metric has something to decide by."""
    evidence: float
    robust: float
    certificate: float
    requests: int
    """Requests of the candidate that every enforced metric has judged."""
    beyond: str | None
    """The first estimate that is not acceptable, or the metric that has none; None: all are within."""


def _known(windows: Sequence[Window], until: float, ledger: Ledger) -> int:
    """Count the windows up to *until* that hold information."""
    warm = ledger.started_at + ledger.settings.warmup.total_seconds()
    return sum(1 for w in windows if w.end <= until and w.stable and w.canary and w.start >= warm)


def _weigh(ledger: Ledger) -> _Facts:
    settings = ledger.settings
    rows: list[MetricVerdict] = []
    beyond: list[str] = []
    judged: list[int] = []
    unresolved: list[str] = []
    invalid: list[str] = []
    thresholds: list[MetricVerdict] = []
    is_complete = any(metric.mode is Mode.ENFORCE for metric in settings.measured)
    for metric in settings.measured:
        weight = settings.weight(metric.name)
        own = rows_of(metric, weight, ledger)
        rows += [one.row for one in own]
        if metric.mode is not Mode.ENFORCE:
            continue
        beyond += [one.row.describe() for one in own if not one.is_within]
        if metric.is_read:
            thresholds += [one.row for one in own if metric.is_threshold]
            invalid += [ledger.unsupported[metric.name]] if metric.name in ledger.unsupported else []
            continue
        judged.append(max((one.row.n_canary for one in own), default=0))
        if metric.name in ledger.unsupported or all(one.row.certificate is None for one in own):
            is_complete = False
            beyond.append(f"{metric.name} without numbers")
            unresolved += _unresolved(metric.name, ledger)
    enforced = tuple(row for row in rows if row.weight)
    silent = 1 - math.fsum(row.weight for row in enforced)
    return _Facts(
        tuple(rows),
        enforced,
        tuple(unresolved),
        tuple(invalid),
        tuple(thresholds),
        is_complete and not invalid,
        evidence=math.fsum([*(row.weight * row.regression for row in enforced), silent]),
        robust=math.fsum([*(row.weight * row.robust for row in enforced), silent]),
        certificate=min(
            (row.certificate for row in enforced if row.certificate is not None),
            default=settings.promote_at if thresholds and not beyond else 1.0,
        ),
        requests=min(judged, default=_requests(ledger)),
        beyond=beyond[0] if beyond else None,
    )


def _requests(ledger: Ledger) -> int:
    """Return the canary's requests, where no metric of requests is enforced."""
    return ledger.limits.errors.all if ledger.is_alone else ledger.errors.totals[1]


def _unresolved(metric: str, ledger: Ledger) -> list[str]:
    """Say why an enforced latency metric can never decide; nothing while its history still grows."""
    if metric == ERRORS:
        return []
    if metric in ledger.unsupported:
        return [ledger.unsupported[metric]]
    shape = ledger.latency.get(metric)
    if shape is None:
        return [
            f"{metric}: needs a histogram of both versions, found none; switch the metric off or expose it"
        ]
    if shape.is_pending:
        return []
    k = max(
        range(len(shape.bounds)),
        key=lambda k: shape.pooled[k] - (shape.pooled[k - 1] if k else 0),
    )
    low, high = (shape.bounds[k - 1] if k else 0.0), shape.bounds[k]
    sentence = (
        f"{metric}: needs requests of stable on both sides of a bucket bound, found nearly all between "
        f"{low:g}s and {high:g}s; configure finer buckets there on both versions"
    )
    return [sentence]


def _outcome(
    facts: _Facts, ledger: Ledger, *, at_last_step: bool, dwell_served: bool
) -> tuple[Outcome, Cause]:
    settings = ledger.settings
    if facts.robust >= settings.rollback_at or facts.evidence >= CERTAIN:
        return Outcome.ROLLBACK, Cause.REGRESSION_EVIDENCE
    if any(row.has_broken for row in facts.thresholds):
        return Outcome.ROLLBACK, Cause.THRESHOLD_FAILED
    is_proven = facts.is_complete and facts.beyond is None and facts.certificate >= settings.promote_at
    is_calm = facts.robust < HOLD_AT and not ledger.is_stable_unhealthy and ledger.last is Last.USED
    if at_last_step and dwell_served and is_proven and is_calm:
        has_certificate = any(row.certificate is not None for row in facts.enforced)
        return Outcome.PROMOTE, Cause.CERTIFICATE_COMPLETE if has_certificate else Cause.THRESHOLDS_KEPT
    if ledger.counted_seconds >= settings.max_duration.total_seconds():
        return Outcome.INCONCLUSIVE, Cause.MAX_DURATION
    if ledger.silent_seconds >= settings.no_data_after.total_seconds():
        return Outcome.INCONCLUSIVE, Cause.NO_DATA
    return Outcome.CONTINUE, _waiting(facts, ledger, at_last_step=at_last_step)


def _waiting(facts: _Facts, ledger: Ledger, *, at_last_step: bool) -> Cause:
    """Return what the run waits for; the more urgent first."""
    load = ledger.load_ratio or 1.0
    # A small canary with little load is cured by the next step, so it is no reason to hold one.
    is_uneven = load > COMPARABLE_LOAD or (at_last_step and load < 1 / COMPARABLE_LOAD)
    if ledger.last is Last.WARMING:
        return Cause.WARMING_UP
    if ledger.last is Last.MISSING or _absent(ledger):
        return Cause.METRICS_UNAVAILABLE
    if ledger.is_stable_unhealthy:
        return Cause.BASELINE_UNHEALTHY
    if facts.invalid:
        return Cause.INVALID_QUERY
    if facts.unresolved:
        return Cause.NO_RESOLUTION
    return Cause.NOT_COMPARABLE if is_uneven else Cause.UNDECIDED


def _absent(ledger: Ledger) -> list[str]:
    """Return the enforced metrics that the last used window did not have."""
    return [
        metric
        for metric in ledger.absent
        if ledger.settings.weight(metric) and metric not in ledger.unsupported
    ]


def _message(outcome: Outcome, cause: Cause, facts: _Facts, ledger: Ledger) -> str:
    if cause is Cause.THRESHOLD_FAILED:
        return shares([row for row in facts.thresholds if row.has_broken])
    if cause is Cause.THRESHOLDS_KEPT:
        return shares(facts.thresholds)
    if outcome is Outcome.ROLLBACK:
        return _accusation(facts, ledger.settings)
    if outcome is Outcome.PROMOTE:
        weakest = min(
            (row for row in facts.enforced if row.certificate is not None),
            key=lambda row: row.certificate or 0.0,
        )
        return (
            f"{weakest.describe()} is the least certain, certificate {odds(facts.certificate)}, "
            f"bar {odds(ledger.settings.promote_at)}; evidence of a regression {odds(facts.robust)}"
        )
    return _explanation(cause, facts, ledger)


def _accusation(facts: _Facts, settings: Settings) -> str:
    """Name the metric that weighs most, and the evidence that was past its bar."""
    if facts.robust >= settings.rollback_at:
        worst = max(facts.enforced, key=lambda row: row.weight * row.robust)
        return f"{worst.describe()}, evidence {odds(facts.robust)}, bar {odds(settings.rollback_at)}"
    worst = max(facts.enforced, key=lambda row: row.weight * row.regression)
    return f"{worst.describe()}, evidence {odds(facts.evidence)}, bar {odds(CERTAIN)} for a single window"


def _explanation(cause: Cause, facts: _Facts, ledger: Ledger) -> str:
    settings = ledger.settings
    so_far = (
        f"{shares(_loudest(facts.enforced or facts.thresholds))}; "
        f"evidence of a regression {odds(facts.robust)}, "
        f"certificate {odds(facts.certificate)} of {odds(settings.promote_at)}"
    )
    match cause:
        case Cause.WARMING_UP:
            warmup = _minutes(settings.warmup.total_seconds())
            return f"needs windows after the warm-up of {warmup}, found none yet"
        case Cause.METRICS_UNAVAILABLE:
            wanted = "complete scrapes" if ledger.last is Last.MISSING else ", ".join(_absent(ledger))
            return (
                f"needs {wanted} of both versions in the last window, found none; "
                "the weight stays until they are there"
            )
        case Cause.NO_DATA:
            return (
                f"needs canary requests, found none for {_minutes(settings.no_data_after.total_seconds())}; "
                "send traffic or a load test"
            )
        case Cause.MAX_DURATION:
            return (
                f"needs a decision within {_minutes(settings.max_duration.total_seconds())}, found {so_far}"
            )
        case Cause.BASELINE_UNHEALTHY:
            slo = f"{100 * settings.errors.slo:g}%"
            return f"needs a healthy stable version, found its own errors over {slo}: {so_far}"
        case Cause.INVALID_QUERY:
            return facts.invalid[0]
        case Cause.NO_RESOLUTION:
            return facts.unresolved[0]
        case Cause.NOT_COMPARABLE:
            return (
                f"needs like load on both versions, found {ledger.load_ratio or 1.0:.2g} times as many "
                f"requests per canary pod; change the number of canary pods: {so_far}"
            )
        case _:
            return so_far


def _loudest(rows: Sequence[MetricVerdict]) -> list[MetricVerdict]:
    """Return one row of each metric: the one that accuses the canary most."""
    out: dict[str, MetricVerdict] = {}
    for row in rows:
        if row.name not in out or row.regression > out[row.name].regression:
            out[row.name] = row
    return list(out.values())


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:g}m" if seconds % 60 == 0 else f"{seconds:g}s"


__all__ = ["Era", "Frozen", "Settings", "Verdict", "Window", "decide", "judge"]
