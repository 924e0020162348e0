"""Keep the running evidence of one rollout, window by window.

Adding the same windows in the same order gives the same numbers, bit for bit.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from modelops.analysis.boundaries import Curve, tolerated
from modelops.analysis.evidence import (
    Counts,
    certificate_terms,
    doubted,
    floor_terms,
    hedged,
    mixture,
    regression_terms,
    slo_terms,
)
from modelops.analysis.frozen import Boundary, Frozen, Latency, Share
from modelops.analysis.samples import RoleWindow, Window
from modelops.analysis.settings import ERRORS, Settings

FORGET = 0.8
LOWEST_GUESS, HIGHEST_GUESS = 1e-4, 0.97
GAP_TO_UNACCEPTABLE = 0.10
SURPRISE = 4.0
"""Standard deviations that stable's share may be off the guess before the guess starts anew."""
HEDGE = 0.05
"""The part of each window's stake that a certificate of latency keeps back: a guess that a sudden
change of load made wrong costs at most ln 20 then, not the whole certificate."""
ONE_WINDOW = 0.9
COMPARABLE_LOAD = 1.5
COMPARABLE_REQUESTS = 20
UNHEALTHY_ERRORS = 3
Span = tuple[float, float]
Key = tuple[str, float | None]
"""A share: the errors, or a metric with the first quantile that its boundary stands for."""


class Last(Enum):
    """What the last window was."""

    WARMING = "warming"
    MISSING = "missing"
    USED = "used"


@dataclass(frozen=True, slots=True)
class Era:
    """Settings that were in force up to *until* (epoch seconds, exclusive): each window keeps its own."""

    until: float
    settings: Settings


@dataclass(slots=True)
class Tally:
    """The sums of ln S by alternative; and the same with what a single window adds to them bounded."""

    sums: list[float] = field(default_factory=list)
    bounded: list[float] = field(default_factory=list)

    def add(self, terms: Iterable[float], eta: float, *, hedge: float = 0.0, most: float = math.inf) -> None:
        """Add one window, tempered by *eta*; the part *hedge* (0..1) of the stake is not bet.

        *most* is the greatest ln S that the window counts for in ``robust``.
        """
        row = [hedged(eta * term, hedge) for term in terms]
        before = self.sums or [0.0] * len(row)
        self.sums = [a + b for a, b in zip(before, row, strict=True)]
        before = self.bounded or [0.0] * len(row)
        self.bounded = [a + min(most, b) for a, b in zip(before, row, strict=True)]

    def evidence(self) -> float:
        """Return the e-value: 1 without windows."""
        return mixture(self.sums) if self.sums else 1.0

    def robust(self) -> float:
        """Return the e-value with each window bounded: one window alone proves nothing.

        Law: never above ``evidence``, so what bounds the one bounds the other.
        """
        return mixture(self.bounded) if self.bounded else 1.0

    def to_status(self) -> dict[str, list[float]]:
        """Return the sums."""
        return {"sums": self.sums, "bounded": self.bounded}

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> "Tally":
        """Return a tally that goes on from ``to_status``."""
        return cls([float(term) for term in status["sums"]], [float(term) for term in status["bounded"]])


@dataclass(slots=True)
class Account:
    """The evidence about one share of requests, and stable's share as guessed for the next window."""

    bad: float
    all: float
    eta: float
    is_informed: bool
    totals: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    """Bad and all of the canary, bad and all of stable, over the run."""
    ratio: float = 1.0
    """How many times stable's share is unacceptable, as of the last window."""
    regression: Tally = field(default_factory=Tally)
    floor: Tally = field(default_factory=Tally)
    certificate: Tally = field(default_factory=Tally)
    slo: Tally = field(default_factory=Tally)

    @classmethod
    def of(cls, share: Share) -> "Account":
        """Return an account without windows."""
        return cls(share.bad, share.all, 1 / share.dispersion, share.all > 1)

    @property
    def guess(self) -> float:
        """Return stable's share as it is expected before a window is seen."""
        return min(max(self.bad / self.all, LOWEST_GUESS), HIGHEST_GUESS)

    def is_surprised_by(self, counts: Counts) -> bool:
        """Tell whether stable's share has changed at once, far beyond what chance does."""
        expected, spread = counts.stable_all * self.guess, self.guess * (1 - self.guess) / self.eta
        return abs(counts.stable_bad - expected) > SURPRISE * math.sqrt(max(1.0, counts.stable_all * spread))

    def start_anew(self, counts: Counts) -> None:
        """Guess from what stable did in one window alone."""
        self.bad, self.all = 0.5 + counts.stable_bad, 1.0 + counts.stable_all

    def moved(self, share: Share) -> "Account":
        """Return the account at another boundary: the evidence and the totals go on, the guess is new."""
        return replace(self, bad=share.bad, all=share.all)

    def compare(
        self,
        counts: Counts,
        tolerated: float,
        unacceptable: float,
        *,
        accuses: bool = True,
        clears: bool = True,
        hedge: float = 0.0,
        most: float = math.inf,
        is_doubted: bool = False,
    ) -> None:
        """Weigh one window against stable, then learn from it; *hedge* is the certificate's (0..1).

        A window *is_doubted* when the ratios may not hold in it: then it can only take evidence away.
        Before stable has answered a single request there is no guess, so no evidence either way.
        """
        self.ratio = unacceptable
        seen = (
            counts.canary_bad,
            counts.canary_all,
            counts.stable_bad,
            counts.stable_all,
        )
        self.totals = [a + b for a, b in zip(self.totals, seen, strict=True)]
        if counts.canary_all and self.is_informed:
            if accuses:
                terms = regression_terms(counts, self.guess, tolerated)
                self.regression.add(doubted(terms) if is_doubted else terms, self.eta, most=most)
            if clears:
                terms = certificate_terms(counts, self.guess, unacceptable)
                self.certificate.add(doubted(terms) if is_doubted else terms, self.eta, hedge=hedge)
        self.bad = FORGET * self.bad + counts.stable_bad
        self.all = FORGET * self.all + counts.stable_all
        self.is_informed = self.is_informed or counts.stable_all > 0

    def limit(
        self, counts: Counts, floor: float, slo: float, *, clears: bool, most: float = math.inf
    ) -> None:
        """Weigh one window of the canary against fixed shares."""
        if counts.canary_all:
            self.floor.add(floor_terms(counts, floor), self.eta, most=most)
            if clears:
                self.slo.add(slo_terms(counts, slo), self.eta)

    def to_status(self) -> dict[str, Any]:
        """Return plain data."""
        tallies = {name: getattr(self, name) for name in TALLIES}
        return {
            "bad": self.bad,
            "all": self.all,
            "eta": self.eta,
            "informed": self.is_informed,
            "totals": self.totals,
            "ratio": self.ratio,
            **{name: tally.to_status() for name, tally in tallies.items() if tally.sums},
        }

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> "Account":
        """Return an account that goes on from ``to_status``."""
        return cls(
            float(status["bad"]),
            float(status["all"]),
            float(status["eta"]),
            status["informed"],
            list(status["totals"]),
            float(status["ratio"]),
            *(Tally.from_status(status[name]) if name in status else Tally() for name in TALLIES),
        )


TALLIES = ("regression", "floor", "certificate", "slo")


class Ledger:
    """All accounts of a run, and the clocks that only windows with information move."""

    def __init__(self, settings: Settings, frozen: Frozen, started_at: float) -> None:
        self.settings = settings
        self.started_at = started_at
        self.frozen = frozen
        self.latency: dict[str, Latency] = dict(frozen.latency)
        self.errors = Account.of(frozen.errors)
        self.cuts: dict[str, list[tuple[Boundary, Account]]] = {}
        self.curves: dict[str, Curve] = {}
        for metric in self.latency:
            self._cut(metric)
        self.used = 0
        self.counted_seconds = 0.0
        self.silent_seconds = 0.0
        self.until: float | None = None
        self.last = Last.WARMING
        self.has_canary_request = False
        self.health: tuple[bool, ...] = ()
        self.load_ratio: float | None = None
        self.unsupported: Mapping[str, str] = {}
        self.absent: tuple[str, ...] = ()

    @property
    def is_stable_unhealthy(self) -> bool:
        """Tell whether stable itself failed in one of the last two windows."""
        return not all(self.health)

    def add(self, window: Window, settings: Settings, *, is_counted: bool) -> None:
        """Weigh one window by the *settings* that were in force; *is_counted* is whether the clock ran."""
        self.unsupported = window.unsupported
        if window.start < self.started_at + settings.warmup.total_seconds():
            self.last = Last.WARMING
            return
        stable, canary = window.stable, window.canary
        if stable is None or canary is None or stable.seen is None or canary.seen is None:
            self.last = Last.MISSING
            return
        self.last = Last.USED
        self.used += 1
        self.until = window.end
        self._tick(window, canary.seen, is_counted)
        self.load_ratio = _load_ratio(canary, stable)
        absent = [
            metric for metric in self.latency if metric not in canary.latency or metric not in stable.latency
        ]
        if not self._errors(canary, stable, settings):
            absent.insert(0, ERRORS)
        self.absent = tuple(absent)
        for metric in self.latency:
            if metric not in absent:
                self._latency(metric, canary, stable, settings)

    def _tick(self, window: Window, requests: int, is_counted: bool) -> None:
        self.has_canary_request = requests > 0
        if self.has_canary_request:
            self.silent_seconds = 0.0
        if is_counted and window.weight != 0:
            self.counted_seconds += window.end - window.start
            if not self.has_canary_request:
                self.silent_seconds += window.end - window.start

    def _errors(self, canary: RoleWindow, stable: RoleWindow, settings: Settings) -> bool:
        """Weigh the errors; tell whether they were scraped."""
        if (
            canary.errors is None
            or canary.requests is None
            or stable.errors is None
            or stable.requests is None
        ):
            return False
        margin = settings.errors
        counts = Counts(canary.errors, canary.requests, stable.errors, stable.requests)
        is_healthy = (
            counts.stable_bad < UNHEALTHY_ERRORS or counts.stable_bad <= margin.slo * counts.stable_all
        )
        self.health = (*self.health, is_healthy)[-2:]
        most = _most(settings)
        self.errors.limit(counts, margin.ignore_below, margin.slo, clears=is_healthy, most=most)
        self.errors.compare(counts, 1 + margin.max_regression, 1 + margin.unacceptable, most=most)
        return True

    def _latency(self, metric: str, canary: RoleWindow, stable: RoleWindow, settings: Settings) -> None:
        shape = self.latency[metric]
        mine, theirs = canary.latency[metric], stable.latency[metric]
        if shape.is_pending:
            self.latency[metric] = shape.extended(theirs)
            self._cut(metric)
            return
        margin = settings.latency
        good_enough = tolerated(margin.max_regression, shape.spread, canary.pods or 1, stable.pods or 1)
        too_slow = max(margin.unacceptable, good_enough + GAP_TO_UNACCEPTABLE)
        load = self.load_ratio or 1.0
        has_changed = False
        for cut, account in self.cuts[metric]:
            k, curve = cut.index, self.curves[metric]
            counts = Counts(mine[-1] - mine[k], mine[-1], theirs[-1] - theirs[k], theirs[-1])
            is_surprise = account.is_surprised_by(counts)
            account.compare(
                counts,
                curve.ratio_at(account.guess, good_enough),
                curve.ratio_at(account.guess, too_slow),
                accuses=load <= COMPARABLE_LOAD,
                clears=load >= 1 / COMPARABLE_LOAD,
                hedge=HEDGE,
                most=_most(settings),
                is_doubted=is_surprise,
            )
            if is_surprise:
                account.start_anew(counts)
                has_changed = True
        self._follow(metric, (shape.forgotten() if has_changed else shape).seen(theirs))

    def _follow(self, metric: str, shape: Latency) -> None:
        """Keep what stable did, and move the cuts when it has got so fast or slow that they say nothing.

        A surge, for one, takes load off stable: at half the load hardly a request crosses a boundary
        that was drawn under all of it, and a certificate there would take hours.
        """
        self.latency[metric] = shape
        if not any(cut.is_left_behind(account.guess) for cut, account in self.cuts[metric]):
            return
        self.latency[metric] = moved = shape.moved()
        self.curves[metric] = Curve.of(moved.bounds, moved.pooled)
        self.cuts[metric] = [
            (cut, account if cut.index == old.index else account.moved(cut.share))
            for cut, (old, account) in zip(moved.boundaries, self.cuts[metric], strict=True)
        ]

    def _cut(self, metric: str) -> None:
        shape = self.latency[metric]
        self.cuts[metric] = [(cut, Account.of(cut.share)) for cut in shape.boundaries]
        if shape.boundaries:
            self.curves[metric] = Curve.of(shape.bounds, shape.pooled)

    def accounts(self) -> dict[Key, Account]:
        """Return every account by its share."""
        out: dict[Key, Account] = {(ERRORS, None): self.errors}
        for metric, pairs in self.cuts.items():
            out.update({(metric, cut.quantiles[0]): account for cut, account in pairs})
        return out

    def to_carry(self) -> dict[str, Any]:
        """Return a summary from which a run goes on when its windows cannot be fetched any more."""
        return {
            "until": self.until,
            "used": self.used,
            "countedSeconds": self.counted_seconds,
            "silentSeconds": self.silent_seconds,
            "healthy": list(self.health),
            "grown": {
                metric: shape.to_status()
                for metric, shape in self.latency.items()
                if shape != self.frozen.latency[metric]
            },
            "accounts": [
                # A null would be pruned by the API server on its way.
                {
                    "metric": metric,
                    **({} if quantile is None else {"quantile": quantile}),
                    **account.to_status(),
                }
                for (metric, quantile), account in self.accounts().items()
            ],
        }

    def resume(self, carry: Mapping[str, Any]) -> None:
        """Go on from a summary; only to be called before the first window."""
        self.until, self.used = float(carry["until"]), carry["used"]
        self.counted_seconds, self.silent_seconds = (
            float(carry["countedSeconds"]),
            float(carry["silentSeconds"]),
        )
        self.health = tuple(carry["healthy"])
        for metric, shape in carry["grown"].items():
            self.latency[metric] = Latency.from_status(shape)
            self._cut(metric)
        known = {(one["metric"], one.get("quantile")): Account.from_status(one) for one in carry["accounts"]}
        self.errors = known[(ERRORS, None)]
        for metric, pairs in self.cuts.items():
            self.cuts[metric] = [
                (cut, known.get((metric, cut.quantiles[0]), account)) for cut, account in pairs
            ]
        self.last = Last.USED


def _most(settings: Settings) -> float:
    """Return the greatest ln S that one window counts for: nine tenths of the way to a rollback."""
    return ONE_WINDOW * math.log(settings.rollback_at)


def _load_ratio(canary: RoleWindow, stable: RoleWindow) -> float | None:
    """Return the canary's requests per ready pod over stable's; None with too few or unknown pods."""
    if not canary.pods or not stable.pods:
        return None
    mine, theirs = canary.seen or 0, stable.seen or 0
    if min(mine, theirs) < COMPARABLE_REQUESTS:
        return None
    return (mine / canary.pods) / (theirs / stable.pods)
