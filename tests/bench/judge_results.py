"""Count what became of the runs, with bounds, and compare two judges."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.bench.judge_runs import Run

CONFIDENCE = 0.95
DECIDED = ("rollback", "promote", "undecided")


@dataclass(frozen=True, slots=True)
class Share:
    """A share of runs, and where the true one lies with 95 % confidence on each side of 2.5 %."""

    count: int
    of: int
    low: float
    high: float

    @classmethod
    def of_runs(cls, count: int, runs: int) -> "Share":
        """Return the exact bounds.  Source: Clopper and Pearson, 1934."""
        tail = (1 - CONFIDENCE) / 2
        return cls(count, runs, lower(count, runs, tail), 1 - lower(runs - count, runs, tail))

    @property
    def value(self) -> float:
        """Return the share, 0..1."""
        return self.count / self.of


@dataclass(frozen=True, slots=True)
class Result:
    """One judge in one cell; minutes are those to a rollback where harm is judged, else to a promotion."""

    cell: str
    judge: str
    rollback: Share
    promote: Share
    undecided: Share
    median_minutes: float | None
    p95_minutes: float | None
    mean_minutes: float | None
    exposed: float
    exposed_error: float
    """Mean share of an hour's requests that the new version answered, and its standard error."""
    canary_requests: float | None
    """Mean canary requests until a decision of that kind."""
    windows: tuple[int, ...]
    """Windows from the first canary request to that decision, ascending."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def summed(cell: str, judge: str, runs: Sequence[Run], wanted: str) -> Result:
    """Return the result of *runs*; *wanted* is the outcome whose delay counts."""
    count = {outcome: sum(run.outcome == outcome for run in runs) for outcome in DECIDED}
    share = {outcome: Share.of_runs(count[outcome], len(runs)) for outcome in DECIDED}
    decided = [run for run in runs if run.outcome == wanted]
    windows = tuple(sorted(run.windows for run in decided))
    exposed = [run.exposed for run in runs]
    mean = math.fsum(exposed) / len(exposed)
    spread = math.fsum((one - mean) ** 2 for one in exposed) / max(1, len(exposed) - 1)
    return Result(
        cell,
        judge,
        share["rollback"],
        share["promote"],
        share["undecided"],
        median_minutes=quantile(windows, 0.5),
        p95_minutes=quantile(windows, 0.95),
        mean_minutes=_mean([run.windows for run in decided]),
        exposed=mean,
        exposed_error=math.sqrt(spread / len(exposed)),
        canary_requests=_mean([run.canary_requests for run in decided]),
        windows=windows,
    )


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def quantile(ascending: Sequence[int], share: float) -> float | None:
    """Return the least value that at least *share* of all are not above; None without values."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)] if ascending else None


def lower(count: int, runs: int, tail: float) -> float:
    """Return the share at which *count* or more of *runs* have probability *tail*."""
    if count == 0:
        return 0.0
    return _root(lambda share: _at_least(count, runs, share) - tail)


def _at_least(count: int, runs: int, share: float) -> float:
    if share <= 0 or share >= 1:
        return 0.0 if share <= 0 else 1.0
    return math.fsum(
        math.exp(_choose(runs, k) + k * math.log(share) + (runs - k) * math.log1p(-share))
        for k in range(count, runs + 1)
    )


def _choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _root(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return low


def is_more(one: Share, other: Share) -> bool:
    """Tell whether *one* is above *other* by a one-sided test at 95 %.  Source: Fisher's exact test."""
    total, found = one.of + other.of, one.count + other.count
    whole = _choose(total, found)
    chance = math.fsum(
        math.exp(_choose(one.of, k) + _choose(other.of, found - k) - whole)
        for k in range(one.count, min(one.of, found) + 1)
        if found - k <= other.of
    )
    return one.value > other.value and chance < 1 - CONFIDENCE


def is_more_exposed(one: Result, other: Result) -> bool:
    """Tell whether *one* exposes more requests than *other*, one-sided at 95 %, by the normal law."""
    error = math.hypot(one.exposed_error, other.exposed_error)
    return one.exposed - other.exposed > max(1.645 * error, 1e-9)


HEADER = (
    f"{'cell':<5} {'judge':<14} {'rolled back %':>20} {'promoted %':>20} {'undecided':>9} "
    f"{'median':>6} {'p95':>4} {'exposed %':>9} {'requests':>8}"
)


def line(result: Result) -> str:
    """Return one line of the table."""
    minutes = [f"{m:.0f}" if m is not None else "-" for m in (result.median_minutes, result.p95_minutes)]
    requests = "-" if result.canary_requests is None else f"{result.canary_requests:.0f}"
    return (
        f"{result.cell:<5} {result.judge:<14} {_bounded(result.rollback):>20} {_bounded(result.promote):>20} "
        f"{100 * result.undecided.value:9.1f} {minutes[0]:>6} {minutes[1]:>4} {100 * result.exposed:9.1f} "
        f"{requests:>8}"
    )


def _bounded(share: Share) -> str:
    return f"{100 * share.value:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"
