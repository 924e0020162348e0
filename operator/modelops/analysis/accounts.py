"""Keep the evidence about one share of requests, window by window, and a guess of stable's share."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

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
from modelops.analysis.frozen import Share

FORGET = 0.8
LOWEST_GUESS, HIGHEST_GUESS = 1e-4, 0.97
SURPRISE = 4.0
"""Standard deviations that stable's share may be off the guess before the guess starts anew."""


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
