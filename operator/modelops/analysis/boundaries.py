"""Choose where a latency histogram is cut, and what a slowdown means there, from stable's history."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, variance

QUANTILES = (0.75, 0.90, 0.99)
LOWEST_TAIL, HIGHEST = 0.002, 0.6
TAIL, ALMOST_ALL = 0.03, 0.97
LONE_SLOPE = 1 / 0.6
DEFAULT_SPREAD = 0.05
DEFAULT_DISPERSION = 1.2
GAP_TO_UNACCEPTABLE = 0.10
"""How much slower than tolerated the unacceptable at least is."""
SPREAD_PODS, SPREAD_OBSERVATIONS = 3, 50
NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Pick:
    """A chosen bucket boundary: its index, and the quantiles it stands for, each a third of the weight.

    A tail boundary may roll back, but no certificate is asked of it: that would take hours.
    """

    index: int
    quantiles: tuple[float, ...]
    is_tail: bool


def choose(pooled: Sequence[int]) -> tuple[Pick, ...]:
    """Return the boundaries of a histogram with the cumulative counts *pooled*, ascending.

    The last count is the number of observations.  Empty: the buckets cannot tell fast from slow,
    since nearly all observations are in one of them.
    """
    exceeding = [1 - count / pooled[-1] for count in pooled] if pooled and pooled[-1] else []
    central = [k for k, share in enumerate(exceeding) if TAIL <= share <= ALMOST_ALL]
    if not central:
        return ()
    middle = min(central, key=lambda k: (abs(exceeding[k] - 0.5), k))
    candidates = [k for k, share in enumerate(exceeding) if LOWEST_TAIL < share < HIGHEST]
    if not candidates:
        return (Pick(middle, QUANTILES, is_tail=False),)
    picks = {quantile: _nearest(exceeding, candidates, quantile) for quantile in QUANTILES}
    if not any(k in central for k in picks.values()):
        picks[QUANTILES[0]] = middle
    return tuple(
        Pick(k, tuple(q for q in QUANTILES if picks[q] == k), is_tail=exceeding[k] < TAIL)
        for k in sorted(set(picks.values()))
    )


def _nearest(exceeding: Sequence[float], candidates: Sequence[int], quantile: float) -> int:
    return min(candidates, key=lambda k: (abs(math.log(exceeding[k] / (1 - quantile))), k))


@dataclass(frozen=True, slots=True)
class Curve:
    """The history's distribution in probit over log-latency: knots (ln seconds, z), ascending."""

    knots: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, bounds: Sequence[float], pooled: Sequence[int]) -> "Curve":
        """Return the curve through the cumulative shares strictly between 0 and 1."""
        total = pooled[-1]
        return cls(
            tuple(
                (math.log(bound), NORMAL.inv_cdf(count / total))
                for bound, count in zip(bounds, pooled, strict=True)
                if 0 < count < total and 0 < bound < math.inf
            )
        )

    def ratio(self, bound: float, slowdown: float) -> float:
        """Return how many times more requests exceed *bound* seconds when all take 1 + *slowdown* as long.

        Interpolating the shares themselves is far off in wide buckets (1.07 for a true 1.29).
        """
        x = math.log(bound)
        return NORMAL.cdf(-self._z(x - math.log1p(slowdown))) / NORMAL.cdf(-self._z(x))

    def ratio_at(self, share: float, slowdown: float) -> float:
        """Return the same where *share* of the requests, within 0..1, exceed the boundary by now.

        Load has made all requests faster or slower by one factor since the history; the shape stays.
        """
        x = self._x(-NORMAL.inv_cdf(share))
        return NORMAL.cdf(-self._z(x - math.log1p(slowdown))) / NORMAL.cdf(-self._z(x))

    def _x(self, z: float) -> float:
        """Return where the curve reaches *z*: beyond the last knot as steeply as before it."""
        first_x, first_z = self.knots[0]
        if z <= first_z:
            return first_x + (z - first_z) / self._slope_below()
        for (left, low), (right, high) in zip(self.knots, self.knots[1:], strict=False):
            if low < high and z <= high:
                return left + (right - left) * (z - low) / (high - low)
        return self.knots[-1][0]

    def _z(self, x: float) -> float:
        first_x, first_z = self.knots[0]
        if x <= first_x:
            return first_z + self._slope_below() * (x - first_x)
        for (left, low), (right, high) in zip(self.knots, self.knots[1:], strict=False):
            if x <= right:
                return low + (high - low) * (x - left) / (right - left)
        return self.knots[-1][1]

    def _slope_below(self) -> float:
        """Return the slope of the first two knots that differ: an empty bucket says nothing of it."""
        first_x, first_z = self.knots[0]
        for x, z in self.knots[1:]:
            if z > first_z:
                return (z - first_z) / (x - first_x)
        return LONE_SLOPE


def tolerated(max_regression: float, spread: float, canary_pods: int, stable_pods: int) -> float:
    """Return the slowdown that is no regression, once pods may differ by *spread* in log-latency."""
    slack = spread * math.sqrt(1 / max(1, canary_pods) + 1 / max(1, stable_pods))
    return (1 + max_regression) * math.exp(slack) - 1


def pod_spread(bounds: Sequence[float], pods: Sequence[Sequence[int]]) -> float:
    """Return the standard deviation of pod means in log-latency, sampling noise taken out.

    Each pod is its cumulative counts over the whole history.  With fewer than 3 pods of 50
    observations the default is returned.
    """
    moments = [_moments(bounds, pod) for pod in pods if pod and pod[-1] >= SPREAD_OBSERVATIONS]
    if len(moments) < SPREAD_PODS:
        return DEFAULT_SPREAD
    between = variance(mean for mean, _ in moments)
    return math.sqrt(max(0.0, between - fmean(noise for _, noise in moments)))


def _moments(bounds: Sequence[float], cumulative: Sequence[int]) -> tuple[float, float]:
    """Return the mean of log-latency and the variance of that mean, from bucket midpoints."""
    logs: list[float] = []
    weights: list[int] = []
    below, low = 0, 0.0
    for bound, count in zip(bounds, cumulative, strict=True):
        # The outer buckets have one end only; half and twice that end stand for the other.
        start, end = low or bound / 2, bound if bound < math.inf else 2 * low
        logs.append((math.log(start) + math.log(end)) / 2)
        weights.append(count - below)
        below, low = count, bound
    total = cumulative[-1]
    mean = math.fsum(weight * x for x, weight in zip(logs, weights, strict=True)) / total
    within = math.fsum(weight * (x - mean) ** 2 for x, weight in zip(logs, weights, strict=True)) / total
    return mean, within / total


def dispersion(windows: Sequence[Sequence[tuple[int, int]]], pods: int) -> float:
    """Return how much more the pods' shares vary than a binomial, at least 1, shrunk towards 1.2.

    Each window lists (bad, all) of the stable pods that were in it.
    """
    chi2, cells = 0.0, 0
    for window in windows:
        total = sum(trials for _, trials in window)
        share = sum(bad for bad, _ in window) / total if total else 0.0
        for bad, trials in window:
            spread = trials * share * (1 - share)
            if spread > 0.3:
                chi2 += (bad - trials * share) ** 2 / spread
                cells += 1
    correction = pods / (pods - 1) if pods > 1 else 1.0
    return max(1.0, (chi2 * correction + 12) / (cells + 10))
