"""Keep the evidence about the metrics of a policy's own, window by window; one class for each kind.

Each is told the reading of a window and how many requests each version had, and shows a row.  What its
margins mean is in the ``Custom`` that was in force in that window.
"""

import math
from collections.abc import Mapping
from typing import Any, Protocol

from modelops.analysis.accounts import Account, Tally
from modelops.analysis.bets import (
    event_regression_terms,
    level_evidence,
    score_certificate_terms,
    score_regression_terms,
)
from modelops.analysis.boundaries import DEFAULT_DISPERSION
from modelops.analysis.evidence import Counts
from modelops.analysis.frozen import Share
from modelops.analysis.queries import WINDOW
from modelops.analysis.samples import Reading
from modelops.analysis.settings import Custom, Kind
from modelops.analysis.verdict import Form, MetricVerdict

EXTRAPOLATED = 0.5
"""What a count by PromQL's ``increase`` is worth: with two scrapes a window it stretches what was seen to
twice as much at most.  Counts that are c times as large make S to the power c, so tempered by a half it is
S to a power of 1 at most, which stays an e-variable (Jensen)."""


class Measure(Protocol):
    """The evidence about one metric."""

    def add(self, reading: Reading, requests: tuple[int, int], custom: Custom, *, most: float) -> None:
        """Weigh one window; *requests* are the canary's and stable's, *most* bounds what it counts for."""

    def row(self, name: str, weight: float, promote_at: float) -> MetricVerdict:
        """Return what to show and decide by."""

    @property
    def is_within(self) -> bool:
        """Tell whether the point estimate is acceptable; what has no number is not."""

    def to_status(self) -> dict[str, Any]:
        """Return plain data, from which ``resume`` goes on."""

    def resume(self, status: Mapping[str, Any]) -> None:
        """Go on from ``to_status``."""


class Ratio:
    """Bad ones of all, compared as errors are, without floor and SLO.

    Nothing is known of stable before the run, so its first window gives no evidence but the first guess.
    """

    def __init__(self, worth: float) -> None:
        self.account = Account.of(Share(0.5, 1.0, DEFAULT_DISPERSION / worth))

    def add(self, reading: Reading, requests: tuple[int, int], custom: Custom, *, most: float) -> None:
        canary, stable = _pair(reading.canary), _pair(reading.stable)
        scale = self.account.guess if custom.is_points else 1.0
        self.account.compare(
            Counts(*canary, *stable),
            1 + custom.tolerated / scale,
            1 + custom.unacceptable / scale,
            most=most,
        )

    def row(self, name: str, weight: float, promote_at: float) -> MetricVerdict:
        account = self.account
        canary_bad, canary_all, stable_bad, stable_all = account.totals
        return MetricVerdict(
            name,
            None,
            weight,
            n_canary=canary_all,
            n_stable=stable_all,
            canary=canary_bad / canary_all if canary_all else None,
            stable=stable_bad / stable_all if stable_all else None,
            regression=account.regression.evidence(),
            robust=account.regression.robust(),
            certificate=account.certificate.evidence(),
            promote_at=promote_at,
        )

    @property
    def is_within(self) -> bool:
        bad, trials, stable_bad, stable_all = self.account.totals
        stable = (stable_bad + 0.5) / (stable_all + 1)
        return bool(trials and stable_all) and (bad + 0.5) / (trials + 1) <= self.account.ratio * stable

    def to_status(self) -> dict[str, Any]:
        return self.account.to_status()

    def resume(self, status: Mapping[str, Any]) -> None:
        self.account = Account.from_status(status)


class Score:
    """Means within 0..1, more being better, by betting on their difference."""

    def __init__(self) -> None:
        self.sums = [0.0] * 4
        """Sum and count of the canary, sum and count of stable."""
        self.unacceptable = 0.0
        self.regression, self.certificate = Tally(), Tally()

    def add(self, reading: Reading, requests: tuple[int, int], custom: Custom, *, most: float) -> None:
        (ours, of_ours), (theirs, of_theirs) = reading.canary, reading.stable
        if not of_ours or not of_theirs:
            return
        self.sums = [a + b for a, b in zip(self.sums, (*reading.canary, *reading.stable), strict=True)]
        self.unacceptable = custom.unacceptable
        drop = theirs / of_theirs - ours / of_ours
        self.regression.add(score_regression_terms(drop, custom.tolerated), 1.0, most=most)
        self.certificate.add(score_certificate_terms(drop, custom.unacceptable), 1.0)

    def row(self, name: str, weight: float, promote_at: float) -> MetricVerdict:
        ours, of_ours, theirs, of_theirs = self.sums
        return MetricVerdict(
            name,
            None,
            weight,
            n_canary=round(of_ours),
            n_stable=round(of_theirs),
            canary=ours / of_ours if of_ours else None,
            stable=theirs / of_theirs if of_theirs else None,
            regression=self.regression.evidence(),
            robust=self.regression.robust(),
            certificate=self.certificate.evidence(),
            promote_at=promote_at,
            form=Form.VALUE,
        )

    @property
    def is_within(self) -> bool:
        ours, of_ours, theirs, of_theirs = self.sums
        return bool(of_ours and of_theirs) and theirs / of_theirs - ours / of_ours <= self.unacceptable

    def to_status(self) -> dict[str, Any]:
        tallies = {"regression": self.regression, "certificate": self.certificate}
        kept = {name: tally.to_status() for name, tally in tallies.items() if tally.sums}
        return {"sums": self.sums, "unacceptable": self.unacceptable, **kept}

    def resume(self, status: Mapping[str, Any]) -> None:
        self.sums = [float(value) for value in status["sums"]]
        self.unacceptable = float(status["unacceptable"])
        self.regression, self.certificate = (
            Tally.from_status(status[name]) if name in status else Tally()
            for name in ("regression", "certificate")
        )


class Counter:
    """Events without a total, such as kills for memory; no certificate is asked of what hardly happens."""

    def __init__(self, worth: float) -> None:
        self.worth = worth
        self.events, self.requests = [0, 0], [0, 0]
        self.unacceptable = 0.0
        self.regression = Tally()

    def add(self, reading: Reading, requests: tuple[int, int], custom: Custom, *, most: float) -> None:
        events = round(reading.canary[0]), round(reading.stable[0])
        self.events = [a + b for a, b in zip(self.events, events, strict=True)]
        self.requests = [a + b for a, b in zip(self.requests, requests, strict=True)]
        self.unacceptable = 1 + custom.unacceptable
        terms = event_regression_terms(events, requests, 1 + custom.tolerated)
        self.regression.add(terms, self.worth, most=most)

    def row(self, name: str, weight: float, promote_at: float) -> MetricVerdict:
        return MetricVerdict(
            name,
            None,
            weight,
            n_canary=self.requests[0],
            n_stable=self.requests[1],
            canary=float(self.events[0]),
            stable=float(self.events[1]),
            regression=self.regression.evidence(),
            robust=self.regression.robust(),
            certificate=None,
            promote_at=None,
            form=Form.VALUE,
        )

    @property
    def is_within(self) -> bool:
        ours, theirs = ((e + 0.5) / (n + 1) for e, n in zip(self.events, self.requests, strict=True))
        return bool(all(self.requests)) and ours <= max(1.0, self.unacceptable) * theirs

    def to_status(self) -> dict[str, Any]:
        kept = {"events": self.events, "requests": self.requests, "unacceptable": self.unacceptable}
        return {**kept, **({"regression": self.regression.to_status()} if self.regression.sums else {})}

    def resume(self, status: Mapping[str, Any]) -> None:
        self.events, self.requests = list(status["events"]), list(status["requests"])
        self.unacceptable = float(status["unacceptable"])
        self.regression = Tally.from_status(status["regression"]) if "regression" in status else Tally()


class Gauge:
    """Levels above 0, by the logarithm of their ratio; no certificate is asked, since windows are few."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, 0.0, 0.0
        self.logs = [0.0, 0.0]
        """Sums of ln of the canary's and of stable's levels."""
        self.unacceptable, self.is_higher_better = 0.0, True

    def add(self, reading: Reading, requests: tuple[int, int], custom: Custom, *, most: float) -> None:
        if min(reading.canary[0], reading.stable[0]) <= 0:
            return
        ours, theirs = math.log(reading.canary[0]), math.log(reading.stable[0])
        self.unacceptable, self.is_higher_better = custom.unacceptable, custom.is_higher_better
        # Below 0 is harm in both: the canary is lower, or higher, by more than the margin.
        surplus = ours - theirs - math.log1p(-custom.tolerated)
        if not custom.is_higher_better:
            surplus = theirs - ours + math.log1p(custom.tolerated)
        self.count += 1
        self.total, self.squares = self.total + surplus, self.squares + surplus * surplus
        self.logs = [self.logs[0] + ours, self.logs[1] + theirs]

    def row(self, name: str, weight: float, promote_at: float) -> MetricVerdict:
        ours, theirs = (math.exp(log / self.count) if self.count else None for log in self.logs)
        found = level_evidence(self.count, self.total, self.squares)
        return MetricVerdict(
            name,
            None,
            weight,
            n_canary=self.count,
            n_stable=self.count,
            canary=ours,
            stable=theirs,
            regression=found,
            robust=found,
            certificate=None,
            promote_at=None,
            form=Form.VALUE,
        )

    @property
    def is_within(self) -> bool:
        if not self.count:
            return False
        change = math.exp((self.logs[0] - self.logs[1]) / self.count) - 1
        return (-change if self.is_higher_better else change) <= self.unacceptable

    def to_status(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "total": self.total,
            "squares": self.squares,
            "logs": self.logs,
            "unacceptable": self.unacceptable,
            "higherBetter": self.is_higher_better,
        }

    def resume(self, status: Mapping[str, Any]) -> None:
        self.count, self.total, self.squares = (
            status["count"],
            float(status["total"]),
            float(status["squares"]),
        )
        self.logs = [float(log) for log in status["logs"]]
        self.unacceptable, self.is_higher_better = float(status["unacceptable"]), status["higherBetter"]


class Threshold:
    """The canary's value held to fixed bounds, as other tools do; windows out of them are counted."""

    def __init__(self, custom: Custom) -> None:
        self.windows, self.failed, self.in_a_row = 0, 0, 0
        self.value: float | None = None
        self.has_broken = False
        self.custom = custom

    def add(self, reading: Reading, requests: tuple[int, int], custom: Custom, *, most: float) -> None:
        self.custom, self.value = custom, reading.canary[0]
        self.windows += 1
        is_bad = (custom.least is not None and self.value < custom.least) or (
            custom.most is not None and self.value > custom.most
        )
        self.failed += is_bad
        self.in_a_row = self.in_a_row + 1 if is_bad else 0
        counted = self.in_a_row if custom.is_consecutive else self.failed
        self.has_broken = self.has_broken or counted > custom.failure_limit

    def row(self, name: str, weight: float, promote_at: float) -> MetricVerdict:
        failed = self.in_a_row if self.custom.is_consecutive else self.failed
        row = "in a row " if self.custom.is_consecutive else ""
        rule = f"needs {self._bounds()}, failed in {failed} windows {row}of {self.windows}"
        return MetricVerdict(
            name,
            None,
            weight,
            n_canary=self.windows,
            n_stable=0,
            canary=self.value,
            stable=None,
            regression=1.0,
            robust=1.0,
            certificate=None,
            promote_at=None,
            form=Form.VALUE,
            rule=f"{rule}, at most {self.custom.failure_limit} tolerated",
            has_broken=self.has_broken,
        )

    def _bounds(self) -> str:
        least, most = self.custom.least, self.custom.most
        parts = [
            f"at least {least:g}" if least is not None else "",
            f"at most {most:g}" if most is not None else "",
        ]
        return " and ".join(part for part in parts if part) or "a value"

    @property
    def is_within(self) -> bool:
        return self.windows > 0 and not self.in_a_row and not self.has_broken

    def to_status(self) -> dict[str, Any]:
        return {
            "windows": self.windows,
            "failed": self.failed,
            "inARow": self.in_a_row,
            "broken": self.has_broken,
            **({} if self.value is None else {"value": self.value}),
        }

    def resume(self, status: Mapping[str, Any]) -> None:
        self.windows, self.failed, self.in_a_row = status["windows"], status["failed"], status["inARow"]
        self.has_broken, self.value = status["broken"], status.get("value")


def begun(custom: Custom) -> Measure:
    """Return a measure without windows; *custom* is of a kind that is read."""
    worth = EXTRAPOLATED if any(WINDOW in query for query in custom.queries) else 1.0
    match custom.kind:
        case Kind.RATIO:
            return Ratio(worth)
        case Kind.COUNTER:
            return Counter(worth)
        case Kind.SCORE:
            return Score()
        case Kind.GAUGE:
            return Gauge()
        case Kind.THRESHOLD:
            return Threshold(custom)
        case Kind.HISTOGRAM:
            raise ValueError("a histogram is judged by its buckets, not by readings")


def _pair(part: tuple[float, ...]) -> tuple[int, int]:
    """Return bad and all as whole numbers, of which there are never more bad ones."""
    bad, trials = round(part[0]), round(part[1])
    return min(bad, trials), trials
