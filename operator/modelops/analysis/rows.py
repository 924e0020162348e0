"""Show the evidence about each metric as rows: what was counted, how sure it is, and the bar."""

from dataclasses import dataclass

from modelops.analysis.accounts import Account
from modelops.analysis.boundaries import QUANTILES
from modelops.analysis.frozen import Boundary
from modelops.analysis.ledger import Ledger
from modelops.analysis.limits import Limit
from modelops.analysis.samples import Bounds
from modelops.analysis.settings import ERRORS, Metric
from modelops.analysis.verdict import MetricVerdict


@dataclass(frozen=True, slots=True)
class Judged:
    """One row, and whether its point estimate is acceptable."""

    row: MetricVerdict
    is_within: bool


def rows_of(metric: Metric, weight: float, ledger: Ledger) -> list[Judged]:
    """Return a row for each share of *metric*, which has *weight* in the evidence; none without a shape."""
    if metric.is_read:
        return _read(metric, weight, ledger)
    if ledger.is_alone:
        return _alone(metric, weight, ledger)
    if metric.name == ERRORS:
        return [_errors(ledger, weight)]
    shape = ledger.latency.get(metric.name)
    cuts = ledger.cuts.get(metric.name, [])
    if shape is None or not cuts:
        return []
    return [
        _latency(metric.name, shape.bounds, _part(weight, cut), cut, account, ledger) for cut, account in cuts
    ]


def _read(metric: Metric, weight: float, ledger: Ledger) -> list[Judged]:
    """Return the row of a metric of the policy's own; none where it needs a stable version and has none."""
    measure = ledger.measures.get(metric.name)
    if measure is None or (ledger.is_alone and not metric.is_threshold):
        return []
    return [Judged(measure.row(metric.name, weight, ledger.settings.promote_at), measure.is_within)]


# --- beside stable -----------------------------------------------------------------------------------


def _errors(ledger: Ledger, weight: float) -> Judged:
    account, slo = ledger.errors, ledger.settings.errors.slo
    row = _row(
        ERRORS,
        None,
        weight,
        account,
        regression=min(account.regression.evidence(), account.floor.evidence()),
        robust=min(account.regression.robust(), account.floor.robust()),
        certificate=(account.certificate.evidence() + account.slo.evidence()) / 2,
        promote_at=ledger.settings.promote_at,
    )
    bad, trials, _, _ = account.totals
    return Judged(row, _within(account) or (bad + 0.5) / (trials + 1) <= slo)


def _latency(
    name: str,
    bounds: Bounds,
    weight: float,
    cut: Boundary,
    account: Account,
    ledger: Ledger,
) -> Judged:
    row = _row(
        name,
        bounds[cut.index],
        weight,
        account,
        regression=account.regression.evidence(),
        robust=account.regression.robust(),
        certificate=None if cut.is_tail else account.certificate.evidence(),
        promote_at=None if cut.is_tail else ledger.settings.promote_at,
        earlier=tuple(bounds[k] for k in cut.before),
    )
    return Judged(row, _within(account))


def _row(
    name: str,
    boundary: float | None,
    weight: float,
    account: Account,
    *,
    regression: float,
    robust: float,
    certificate: float | None,
    promote_at: float | None,
    earlier: tuple[float, ...] = (),
) -> MetricVerdict:
    canary_bad, canary_all, stable_bad, stable_all = account.totals
    return MetricVerdict(
        name,
        boundary,
        weight,
        n_canary=canary_all,
        n_stable=stable_all,
        canary=canary_bad / canary_all if canary_all else None,
        stable=stable_bad / stable_all if stable_all else None,
        regression=regression,
        robust=robust,
        certificate=certificate,
        promote_at=promote_at,
        earlier=earlier,
    )


def _within(account: Account) -> bool:
    canary_bad, canary_all, stable_bad, stable_all = account.totals
    return (canary_bad + 0.5) / (canary_all + 1) <= account.ratio * (stable_bad + 0.5) / (stable_all + 1)


def _part(weight: float, cut: Boundary) -> float:
    """Return the part of a metric's weight that a boundary has by the quantiles it stands for."""
    return weight * len(cut.quantiles) / len(QUANTILES)


# --- by fixed limits ---------------------------------------------------------------------------------


def _alone(metric: Metric, weight: float, ledger: Ledger) -> list[Judged]:
    limits = ledger.limits
    if metric.name == ERRORS:
        return [_limited(ERRORS, None, weight, limits.errors, ledger, is_tail=False)]
    cuts = limits.latency.get(metric.name, [])
    bounds = limits.shapes[metric.name].bounds if cuts else ()
    return [
        _limited(metric.name, bounds[cut.index], _part(weight, cut), limit, ledger, is_tail=cut.is_tail)
        for cut, limit in cuts
    ]


def _limited(
    name: str, boundary: float | None, weight: float, limit: Limit, ledger: Ledger, *, is_tail: bool
) -> Judged:
    row = MetricVerdict(
        name,
        boundary,
        weight,
        n_canary=limit.all,
        n_stable=0,
        canary=limit.bad / limit.all if limit.all else None,
        stable=None,
        regression=limit.above.evidence(),
        robust=limit.above.robust(),
        certificate=None if is_tail else limit.below.evidence(),
        promote_at=None if is_tail else ledger.settings.promote_at,
        limit=limit.limit,
    )
    return Judged(row, limit.is_within)
