"""Flagger's and Argo Rollouts' analysis, rebuilt from their documented behaviour, for many runs at once.

Both compare the canary alone with fixed thresholds, once a minute, and count what fails.  Thresholds on
latency are multiples of the 95th percentile of stable's history.

Source: Flagger 1.44 and Argo Rollouts 1.10 documentation; research/rollouts.md 8.2 and 10.1.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from tests.bench.judge_traffic import TPOT_BOUNDS, TTFT_BOUNDS, Floats, Ints, Role

QUANTILE = 0.95
FLAGGER_WEIGHTS = tuple(range(5, 51, 5))
FLAGGER_STRIKES = 5
ARGO_WEIGHTS = (5, 10, 20, 30, 40, 50)
ARGO_STEP_WINDOWS = 5
ARGO_FAILURES = 3
CONTINUE, PROMOTE, ROLLBACK = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Limits:
    """What a check tolerates: the query's range in windows, the error share, multiples of p95."""

    windows: int
    errors: float
    ttft: float
    tpot: float


COMMON = {
    "1m": Limits(1, 0.01, 1.5, 1.5),
    "5m": Limits(5, 0.02, 1.5, 1.5),
    "cal": Limits(5, 0.03, 2.0, 2.0),
}
"""Settings as documentation and guides show them, and one that is calibrated to 5 requests/s."""


def quantile(histogram: Ints, bounds: Sequence[float]) -> Floats:
    """Return the 95th percentile as PromQL's histogram_quantile has it; NaN without observations.

    *histogram* has increments of buckets in its last axis, +Inf last.
    """
    ends = np.asarray(bounds)
    starts = np.concatenate(([0.0], ends[:-1]))
    cumulative = np.cumsum(histogram, axis=-1)
    rank = QUANTILE * cumulative[..., -1]
    k = np.minimum((cumulative < rank[..., None]).sum(axis=-1), len(ends))
    inside = np.minimum(k, len(ends) - 1)
    count = np.take_along_axis(histogram, inside[..., None], axis=-1)[..., 0]
    before = np.take_along_axis(cumulative, inside[..., None], axis=-1)[..., 0] - count
    with np.errstate(invalid="ignore", divide="ignore"):
        within = starts[inside] + (ends[inside] - starts[inside]) * (rank - before) / count
    out = np.where(k == len(ends), ends[-1], within)
    return np.where(cumulative[..., -1] == 0, np.nan, out)


@dataclass(frozen=True, slots=True)
class Usual:
    """The 95th percentiles of stable's history, by run."""

    ttft: Floats
    tpot: Floats

    @classmethod
    def of(cls, history: Iterable[Role]) -> "Usual":
        """Return the percentiles of the pooled windows, which have increments by pod."""
        rows = [row.summed() for row in history]
        return cls(
            quantile(np.sum([row.ttft for row in rows], axis=0), TTFT_BOUNDS),
            quantile(np.sum([row.tpot for row in rows], axis=0), TPOT_BOUNDS),
        )


@dataclass(slots=True)
class Readings:
    """What a query over the last windows returns, by run: error share, p95 over the usual one."""

    usual: Usual
    windows: int
    kept: list[Role] = field(default_factory=list)

    def read(self, canary: Role) -> Floats:
        """Return (run, 3): errors, TTFT, TPOT of the windows up to this one; NaN without requests."""
        self.kept = [*self.kept, canary][-self.windows :]
        requests = np.sum([row.requests for row in self.kept], axis=0)
        errors = np.sum([row.errors for row in self.kept], axis=0)
        ttft = quantile(np.sum([row.ttft for row in self.kept], axis=0), TTFT_BOUNDS)
        tpot = quantile(np.sum([row.tpot for row in self.kept], axis=0), TPOT_BOUNDS)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.stack([errors / requests, ttft / self.usual.ttft, tpot / self.usual.tpot], axis=-1)


class Peer(Protocol):
    """One tool that judges a block of runs."""

    @property
    def weights(self) -> Ints:
        """Return the percent of requests that the canary of each run gets."""

    def close(self, failed: np.ndarray, *, is_away: bool) -> Ints:
        """Take in one window's checks, (run, 3), and return CONTINUE, PROMOTE or ROLLBACK by run."""


class Flagger:
    """Raise by 5 after each check that passes, roll back at the tick after the fifth that failed."""

    def __init__(self, runs: int) -> None:
        self.step = np.zeros(runs, dtype=np.int64)
        self.strikes = np.zeros(runs, dtype=np.int64)

    @property
    def weights(self) -> Ints:
        """Return the percent of requests that the canary of each run gets."""
        return np.asarray(FLAGGER_WEIGHTS, dtype=np.int64)[self.step]

    def close(self, failed: np.ndarray, *, is_away: bool) -> Ints:
        """Take in one window's checks; a tick fails once, however many of its checks fail."""
        rolls_back = self.strikes >= FLAGGER_STRIKES
        has_failed = failed.any(axis=1) | is_away
        self.strikes += has_failed
        passed = ~has_failed & ~rolls_back
        is_last = self.step == len(FLAGGER_WEIGHTS) - 1
        self.step += passed & ~is_last
        return np.where(rolls_back, ROLLBACK, np.where(passed & is_last, PROMOTE, CONTINUE))


class Argo:
    """Raise every 5 windows, abort when a metric failed more than 3 times or cannot be asked for 50 s."""

    def __init__(self, runs: int) -> None:
        self.window = 0
        self.runs = runs
        self.failures = np.zeros((runs, 3), dtype=np.int64)

    @property
    def weights(self) -> Ints:
        """Return the percent of requests that the canary of each run gets."""
        step = min(self.window // ARGO_STEP_WINDOWS, len(ARGO_WEIGHTS) - 1)
        return np.full(self.runs, ARGO_WEIGHTS[step], dtype=np.int64)

    def close(self, failed: np.ndarray, *, is_away: bool) -> Ints:
        """Take in one window's checks; each metric counts its own failures."""
        self.window += 1
        self.failures += failed
        aborts = (self.failures > ARGO_FAILURES).any(axis=1) | is_away
        ends = self.window >= ARGO_STEP_WINDOWS * len(ARGO_WEIGHTS)
        return np.where(aborts, ROLLBACK, PROMOTE if ends else CONTINUE)


TOOLS: dict[str, Callable[[int], Peer]] = {"Flagger": Flagger, "Argo": Argo}


def fails(readings: Floats, limits: Limits) -> np.ndarray:
    """Tell which checks fail; a value that is no number fails, as it does in both tools."""
    most = np.array([limits.errors, limits.ttft, limits.tpot])
    return ~(readings <= most)
