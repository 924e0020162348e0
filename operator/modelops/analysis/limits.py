"""Judge the canary by fixed limits, where no stable version answers like requests beside it.

That is so while it bakes, since it has all requests, and for requests that were chosen and not drawn: by a
header, a cookie, or the host of a preview.  Errors are held to the SLO.  Latency is held, at the boundaries
of stable's hour before the run, to the share of slow requests that the unacceptable slowdown would make of
stable's.  Weather is not cancelled: an incident of everybody looks like the canary's.

Law: a canary within the limits gathers evidence of 100 with probability 1/100 at most, however often it is
looked at.  The limit of latency is an estimate: it stands three standard errors of stable's share above it
(0.13 % for each boundary), so that few requests in that hour accuse nobody.

Source: research/rollouts.md 3.1 (Baking), 5.12; tests/analysis/test_limits.py counts the law out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelops.analysis.accounts import Tally
from modelops.analysis.boundaries import GAP_TO_UNACCEPTABLE, Curve, tolerated
from modelops.analysis.evidence import (
    CERTIFICATE_FACTORS,
    FLOOR_FACTORS,
    REGRESSION_FACTORS,
    SLO_FACTORS,
    above_terms,
    below_terms,
    interval,
)
from modelops.analysis.frozen import Boundary, Latency, Share
from modelops.analysis.samples import RoleWindow
from modelops.analysis.settings import Settings

STANDARD_ERRORS = 3.0


@dataclass(slots=True)
class Limit:
    """The evidence about one share of the canary's requests against a fixed one."""

    eta: float
    bad: int = 0
    all: int = 0
    limit: float = 1.0
    """The share up to which nothing is wrong, as of the last window."""
    within: float = 1.0
    """The share up to which a point estimate is acceptable, as of the last window."""
    above: Tally = field(default_factory=Tally)
    below: Tally = field(default_factory=Tally)

    def add(
        self,
        bad: int,
        trials: int,
        above: tuple[float, Sequence[float]],
        below: tuple[float, Sequence[float]],
        *,
        most: float,
    ) -> None:
        """Weigh one window: *above* is a limit and its factors, *below* a limit and guesses under it."""
        self.bad, self.all = self.bad + bad, self.all + trials
        self.limit = above[0]
        if trials:
            self.above.add(above_terms(bad, trials, *above), self.eta, most=most)
            self.below.add(below_terms(bad, trials, *below), self.eta)

    @property
    def is_within(self) -> bool:
        """Tell whether the point estimate is acceptable."""
        return (self.bad + 0.5) / (self.all + 1) <= self.within

    def to_status(self) -> dict[str, Any]:
        """Return plain data."""
        tallies = {"above": self.above, "below": self.below}
        return {
            "eta": self.eta,
            "bad": self.bad,
            "all": self.all,
            "limit": self.limit,
            "within": self.within,
            **{name: tally.to_status() for name, tally in tallies.items() if tally.sums},
        }

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> "Limit":
        """Return a limit that goes on from ``to_status``."""
        above, below = (
            Tally.from_status(status[name]) if name in status else Tally() for name in ("above", "below")
        )
        shares = (float(status["limit"]), float(status["within"]))
        return cls(float(status["eta"]), status["bad"], status["all"], *shares, above, below)


class Limits:
    """Every limit of a run; the boundaries are those of the shapes that it was given first."""

    def __init__(self, errors: Share) -> None:
        self.errors = Limit(1 / errors.dispersion)
        self.shapes: dict[str, Latency] = {}
        self.latency: dict[str, list[tuple[Boundary, Limit]]] = {}

    def take(self, shapes: Mapping[str, Latency]) -> None:
        """Take the boundaries of each metric that has some; those taken before stay."""
        for metric, shape in shapes.items():
            if metric not in self.shapes and shape.boundaries:
                self.shapes[metric] = shape
                self.latency[metric] = [(cut, Limit(1 / cut.share.dispersion)) for cut in shape.boundaries]

    def add(
        self, canary: RoleWindow, settings: Settings, *, stable_pods: int, most: float, is_calm: bool
    ) -> None:
        """Weigh one window; without *is_calm* stable failed in it too, and nothing is concluded."""
        if not is_calm:
            return
        slo = settings.errors.slo
        if canary.errors is not None and canary.requests is not None:
            self.errors.within = slo
            self.errors.add(
                canary.errors,
                canary.requests,
                (slo, FLOOR_FACTORS),
                (slo, [slo * factor for factor in SLO_FACTORS]),
                most=most,
            )
        margin, pods = settings.latency, (canary.pods or 1, stable_pods)
        for metric, cuts in self.latency.items():
            row = canary.latency.get(metric)
            if row is None:
                continue
            shape = self.shapes[metric]
            curve = Curve.of(shape.bounds, shape.pooled)
            too_slow = tolerated(margin.max_regression, shape.spread, *pods) + GAP_TO_UNACCEPTABLE
            for cut, limit in cuts:
                ratio = curve.ratio(shape.bounds[cut.index], max(margin.unacceptable, too_slow))
                _hold(limit, shape, cut, ratio, row, most)

    def to_status(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "errors": self.errors.to_status(),
            "latency": {
                metric: {
                    "shape": self.shapes[metric].to_status(),
                    "limits": [limit.to_status() for _, limit in cuts],
                }
                for metric, cuts in self.latency.items()
            },
        }

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> "Limits":
        """Return limits that go on from ``to_status``."""
        out = cls(Share(0.0, 1.0))
        out.errors = Limit.from_status(status["errors"])
        for metric, kept in status["latency"].items():
            shape = out.shapes[metric] = Latency.from_status(kept["shape"])
            limits = [Limit.from_status(one) for one in kept["limits"]]
            out.latency[metric] = list(zip(shape.boundaries, limits, strict=True))
        return out


def _hold(limit: Limit, shape: Latency, cut: Boundary, ratio: float, row: Sequence[int], most: float) -> None:
    """Weigh the requests over one boundary, *ratio* being what the unacceptable slowdown makes of them."""
    pooled, k = shape.pooled, cut.index
    over, seen = pooled[-1] - pooled[k], pooled[-1]
    low, high = interval(limit.eta * over, limit.eta * seen, STANDARD_ERRORS)
    share = over / seen
    limit.within = min(1.0, ratio * share)
    limit.add(
        row[-1] - row[k],
        row[-1],
        (min(1.0, ratio * high), REGRESSION_FACTORS),
        (ratio * low, [share * factor for factor in CERTIFICATE_FACTORS]),
        most=most,
    )
