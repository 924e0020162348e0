"""Freeze what stable's last hour says before a run begins: boundaries, spread, dispersion, first guesses."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from modelops.analysis.boundaries import (
    ALMOST_ALL,
    DEFAULT_DISPERSION,
    DEFAULT_SPREAD,
    TAIL,
    Pick,
    choose,
    dispersion,
    pod_spread,
)
from modelops.analysis.samples import Bounds, RoleWindow, total
from modelops.analysis.settings import ERRORS

NEEDED = 200
"""Observations below which a histogram has no shape yet."""
HISTORY_WINDOWS = 60
RECENT_WINDOWS = 10
MOVED_WINDOWS = 5
"""Windows of the run that new boundaries are drawn from: as many as the guess of a share remembers."""
MOVES_KEPT = 5


@dataclass(frozen=True, slots=True)
class History:
    """Stable's windows before the run, oldest first; only the last 60 count.

    ``windows`` are sums over the role.  ``pods`` has the same windows by pod, where they are known.
    ``bounds`` are the buckets by metric.
    """

    windows: tuple[RoleWindow, ...]
    bounds: Mapping[str, Bounds]
    pods: tuple[Mapping[str, RoleWindow], ...] = ()

    @classmethod
    def of(cls, pods: Sequence[Mapping[str, RoleWindow]], bounds: Mapping[str, Bounds]) -> "History":
        """Return the history of windows by pod, as ``samples.history`` counts them."""
        kept = tuple(pods[-HISTORY_WINDOWS:])
        windows = (total(window.values()) for window in kept)
        return cls(tuple(window for window in windows if window), bounds, kept)


@dataclass(frozen=True, slots=True)
class Share:
    """What is known of one share before the run: stable's guess as bad / all, and its dispersion."""

    bad: float
    all: float
    dispersion: float = DEFAULT_DISPERSION


@dataclass(frozen=True, slots=True)
class Boundary:
    """One cut of a histogram, requests above it being bad.

    ``quantiles`` are those of stable that it stands for, each a third of the metric's weight.
    ``before`` are the indices where this cut was earlier in the run, oldest first.
    """

    index: int
    quantiles: tuple[float, ...]
    is_tail: bool
    share: Share
    before: tuple[int, ...] = ()

    def is_left_behind(self, share: float) -> bool:
        """Tell whether stable's *share* above the cut has become too small or too large to compare by."""
        return not self.is_tail and not TAIL <= share <= ALMOST_ALL


@dataclass(frozen=True, slots=True)
class Latency:
    """The shape of one histogram, and where it is cut.

    With fewer than 200 observations it is pending: it has no boundaries, and windows of the run are
    added before they may give evidence.  ``recent`` are stable's cumulative counts in its last windows.
    """

    bounds: Bounds
    pooled: tuple[int, ...]
    spread: float = DEFAULT_SPREAD
    boundaries: tuple[Boundary, ...] = ()
    recent: tuple[tuple[int, ...], ...] = ()
    dispersion: float = DEFAULT_DISPERSION

    @property
    def is_pending(self) -> bool:
        """Tell whether the history is too short to choose boundaries."""
        return self.pooled[-1] < NEEDED

    def extended(self, row: Sequence[int]) -> "Latency":
        """Return a pending shape with one window of stable more; boundaries once there is enough."""
        pooled = tuple(a + b for a, b in zip(self.pooled, row, strict=True))
        grown = replace(self.seen(row), pooled=pooled)
        return grown if grown.is_pending else _cut(grown, ())

    def seen(self, row: Sequence[int]) -> "Latency":
        """Return the same shape, which remembers one window of stable more."""
        return replace(self, recent=(*self.recent, tuple(row))[-RECENT_WINDOWS:])

    def forgotten(self) -> "Latency":
        """Return the same shape without stable's last windows, which were of another load."""
        return replace(self, recent=())

    def moved(self) -> "Latency":
        """Return the shape of stable's last windows, each cut moved to where its quantile is now.

        The same shape while these are fewer than 200 observations or all in one bucket.  Only stable's
        own past is looked at, so evidence that goes on over the move stays valid: which cut the next
        window is judged by is known before it begins.
        """
        for windows in range(MOVED_WINDOWS, RECENT_WINDOWS + 1):
            pooled = _add(self.recent[-windows:], len(self.bounds))
            if pooled[-1] >= NEEDED:
                break
        picks = {quantile: pick for pick in choose(pooled) for quantile in pick.quantiles}
        if pooled[-1] < NEEDED or not picks:
            return self
        boundaries = tuple(_moved(cut, picks[cut.quantiles[0]], self.recent) for cut in self.boundaries)
        return replace(self, pooled=pooled, boundaries=boundaries)

    def to_status(self) -> dict[str, Any]:
        """Return plain data; bounds as Prometheus writes them."""
        return {
            "bounds": ["+Inf" if bound == math.inf else repr(bound) for bound in self.bounds],
            "pooled": list(self.pooled),
            "spread": self.spread,
            "dispersion": self.dispersion,
            "boundaries": [
                {
                    "index": cut.index,
                    "quantiles": list(cut.quantiles),
                    "tail": cut.is_tail,
                    "before": list(cut.before),
                    **_share_to(cut.share),
                }
                for cut in self.boundaries
            ],
            "recent": [list(row) for row in self.recent],
        }

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> "Latency":
        """Return what ``to_status`` wrote."""
        return cls(
            tuple(float(bound) for bound in status["bounds"]),
            tuple(status["pooled"]),
            float(status["spread"]),
            tuple(
                Boundary(
                    cut["index"],
                    tuple(cut["quantiles"]),
                    cut["tail"],
                    _share_from(cut),
                    tuple(cut["before"]),
                )
                for cut in status["boundaries"]
            ),
            tuple(tuple(row) for row in status.get("recent", ())),
            float(status["dispersion"]),
        )


@dataclass(frozen=True, slots=True)
class Frozen:
    """Everything a run takes from before it began; fixed until its end."""

    errors: Share
    latency: Mapping[str, Latency] = field(default_factory=dict)

    @property
    def bounds(self) -> dict[str, Bounds]:
        """Return the buckets by metric, which both versions must have for the whole run."""
        return {metric: latency.bounds for metric, latency in self.latency.items()}

    def learn(self, bounds: Mapping[str, Bounds]) -> "Frozen":
        """Return the same with histograms that had no series before the run, pending."""
        new = {metric: Latency(found, (0,) * len(found)) for metric, found in bounds.items()}
        return replace(self, latency={**new, **self.latency})

    def to_status(self) -> dict[str, Any]:
        """Return plain data with camelCase keys.  Law: ``from_status(to_status(x)) == x``."""
        return {
            "errors": _share_to(self.errors),
            "latency": {metric: latency.to_status() for metric, latency in self.latency.items()},
        }

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> "Frozen":
        """Return what ``to_status`` wrote.  Raises KeyError or ValueError on anything else."""
        return cls(
            _share_from(status["errors"]),
            {metric: Latency.from_status(latency) for metric, latency in status.get("latency", {}).items()},
        )


def freeze(
    history: History,
    *,
    spread: Mapping[str, float] | None = None,
    dispersions: Mapping[str, float] | None = None,
) -> Frozen:
    """Return what a run needs from *history*.

    *spread* and *dispersions*, by metric, replace what would be measured between pods.
    """
    spread, dispersions = spread or {}, dispersions or {}
    windows = history.windows[-HISTORY_WINDOWS:]
    rows = [(w.errors, w.requests) for w in windows if w.errors is not None and w.requests is not None]
    cells = [
        [
            (row.errors, row.requests)
            for row in pods.values()
            if row.errors is not None and row.requests is not None
        ]
        for pods in history.pods
    ]
    errors = _share(rows, dispersions.get(ERRORS) or _measured(cells))
    latency = {
        metric: _freeze(metric, history, spread.get(metric), dispersions.get(metric))
        for metric in history.bounds
    }
    return Frozen(errors, latency)


def _freeze(metric: str, history: History, spread: float | None, phi: float | None) -> Latency:
    bounds = history.bounds[metric]
    windows = history.windows[-HISTORY_WINDOWS:]
    rows = [w.latency[metric] for w in windows if metric in w.latency]
    by_pod: dict[str, list[tuple[int, ...]]] = {}
    for window in history.pods:
        for pod, row in window.items():
            if metric in row.latency:
                by_pod.setdefault(pod, []).append(row.latency[metric])
    shape = Latency(
        bounds,
        _add(rows, len(bounds)),
        spread=pod_spread(bounds, [_add(pod, len(bounds)) for pod in by_pod.values()])
        if spread is None
        else spread,
        recent=tuple(rows[-RECENT_WINDOWS:]),
        dispersion=phi or DEFAULT_DISPERSION,
    )
    if shape.is_pending:
        return shape
    cells = [
        [row.latency[metric] for row in window.values() if metric in row.latency] for window in history.pods
    ]
    return _cut(shape, cells if phi is None else ())


def _cut(shape: Latency, cells: Sequence[Sequence[Sequence[int]]]) -> Latency:
    """Choose the boundaries; *cells* are the pods' cumulative counts by window, empty if unknown."""
    boundaries = tuple(_boundary(pick, shape, cells) for pick in choose(shape.pooled))
    return replace(shape, boundaries=boundaries)


def _boundary(pick: Pick, shape: Latency, cells: Sequence[Sequence[Sequence[int]]]) -> Boundary:
    at_k = [_above(window, pick.index) for window in cells]
    phi = _measured(at_k) if at_k else shape.dispersion
    return Boundary(pick.index, pick.quantiles, pick.is_tail, _share(_above(shape.recent, pick.index), phi))


def _moved(cut: Boundary, pick: Pick, recent: Sequence[Sequence[int]]) -> Boundary:
    if pick.index == cut.index:
        return replace(cut, is_tail=pick.is_tail)
    share = _share(_above(recent[-MOVED_WINDOWS:], pick.index), cut.share.dispersion)
    return Boundary(pick.index, cut.quantiles, pick.is_tail, share, (*cut.before, cut.index)[-MOVES_KEPT:])


def _above(rows: Iterable[Sequence[int]], k: int) -> list[tuple[int, int]]:
    """Return (over the boundary *k*, all) of each row of cumulative counts."""
    return [(row[-1] - row[k], row[-1]) for row in rows]


def _measured(cells: Sequence[Sequence[tuple[int, int]]]) -> float:
    return dispersion(cells, max(map(len, cells), default=0))


def _share(rows: Iterable[tuple[int, int]], phi: float) -> Share:
    """Return the first guess: half a bad one of one is added, so that it is never certain."""
    recent = list(rows)[-RECENT_WINDOWS:]
    return Share(
        0.5 + sum(bad for bad, _ in recent),
        1.0 + sum(trials for _, trials in recent),
        phi,
    )


def _add(rows: Iterable[Sequence[int]], length: int) -> tuple[int, ...]:
    out = [0] * length
    for row in rows:
        out = [a + b for a, b in zip(out, row, strict=True)]
    return tuple(out)


def _share_to(share: Share) -> dict[str, float]:
    return {"bad": share.bad, "all": share.all, "dispersion": share.dispersion}


def _share_from(status: Mapping[str, Any]) -> Share:
    return Share(float(status["bad"]), float(status["all"]), float(status["dispersion"]))
