"""Keep the running evidence of one rollout, window by window.

Adding the same windows in the same order gives the same numbers, bit for bit.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from modelops.analysis.accounts import Account
from modelops.analysis.boundaries import GAP_TO_UNACCEPTABLE, Curve, tolerated
from modelops.analysis.custom import Measure, begun
from modelops.analysis.evidence import Counts
from modelops.analysis.frozen import Boundary, Frozen, Latency
from modelops.analysis.limits import Limits
from modelops.analysis.samples import RoleWindow, Window
from modelops.analysis.settings import ERRORS, Baseline, Custom, Mode, Settings

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


class Ledger:
    """All accounts of a run, and the clocks that only windows with information move."""

    def __init__(
        self,
        settings: Settings,
        frozen: Frozen,
        started_at: float,
        *,
        switched_at: float | None = None,
    ) -> None:
        self.settings = settings
        self.started_at = started_at
        self.switched_at = switched_at
        self.frozen = frozen
        self.latency: dict[str, Latency] = dict(frozen.latency)
        self.errors = Account.of(frozen.errors)
        self.cuts: dict[str, list[tuple[Boundary, Account]]] = {}
        self.curves: dict[str, Curve] = {}
        for metric in self.latency:
            self._cut(metric)
        self.limits = Limits(frozen.errors)
        self.has_switched = False
        self.customs = {
            metric.name: metric.custom
            for metric in settings.metrics
            if metric.custom and metric.is_read and metric.mode is not Mode.OFF
        }
        self.measures: dict[str, Measure] = {name: begun(one) for name, one in self.customs.items()}
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
    def is_alone(self) -> bool:
        """Tell whether the canary is judged by fixed limits now, since nothing like it runs beside it."""
        return self.switched_at is not None or self.settings.baseline is Baseline.NONE

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
        is_alone = self._begins_alone(window) or settings.baseline is Baseline.NONE
        self._read(window, settings, (canary.seen, stable.seen), is_alone=is_alone)
        if is_alone:
            self._alone(canary, stable, settings)
            return
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

    def _begins_alone(self, window: Window) -> bool:
        """Tell whether the canary had all requests in *window*; what went before says nothing of that."""
        if self.switched_at is None or window.start < self.switched_at:
            return False
        if not self.has_switched:
            self.limits, self.has_switched = Limits(self.frozen.errors), True
        return True

    def _read(self, window: Window, settings: Settings, requests: tuple[int, int], *, is_alone: bool) -> None:
        """Weigh the metrics of the policy's own; what an edit replaced by another query says nothing now."""
        in_force: dict[str, Custom] = {m.name: m.custom for m in settings.metrics if m.custom}
        for name, measure in self.measures.items():
            reading, custom = window.readings.get(name), in_force.get(name)
            if reading is None or custom is None or not _is_same(custom, self.customs[name]):
                continue
            if reading.stable and is_alone:
                continue
            measure.add(reading, requests, custom, most=_most(settings))

    def _alone(self, canary: RoleWindow, stable: RoleWindow, settings: Settings) -> None:
        """Weigh a window by fixed limits; stable only tells whether something fails for everybody."""
        self.load_ratio = None
        is_healthy = _is_healthy(stable, settings)
        self.health = (*self.health, is_healthy)[-2:]
        for metric, shape in self.latency.items():
            if shape.is_pending and metric in stable.latency:
                self.latency[metric] = shape.extended(stable.latency[metric])
                self._cut(metric)
        self.limits.take({m: s for m, s in self.frozen.latency.items() if not s.is_pending})
        self.limits.take(self.latency)
        self.limits.add(
            canary, settings, stable_pods=stable.pods or 1, most=_most(settings), is_calm=is_healthy
        )
        absent = [metric for metric in self.latency if metric not in canary.latency]
        self.absent = tuple(absent if canary.errors is not None else [ERRORS, *absent])

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
        is_healthy = _is_healthy(stable, settings)
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
        alone = {"switched": self.has_switched, "limits": self.limits.to_status()}
        return {
            **(alone if self.is_alone else {}),
            "until": self.until,
            "used": self.used,
            "countedSeconds": self.counted_seconds,
            "silentSeconds": self.silent_seconds,
            "healthy": list(self.health),
            **({"measures": self._measured()} if self.measures else {}),
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

    def _measured(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "queries": list(self.customs[name].queries), "evidence": measure.to_status()}
            for name, measure in self.measures.items()
        ]

    def resume(self, carry: Mapping[str, Any]) -> None:
        """Go on from a summary; only to be called before the first window."""
        self.until, self.used = float(carry["until"]), carry["used"]
        self.counted_seconds, self.silent_seconds = (
            float(carry["countedSeconds"]),
            float(carry["silentSeconds"]),
        )
        self.health = tuple(carry["healthy"])
        for one in carry.get("measures", ()):
            known = self.customs.get(one["name"])
            if known is not None and list(known.queries) == one["queries"]:
                self.measures[one["name"]].resume(one["evidence"])
        if "limits" in carry:
            self.limits = Limits.from_status(carry["limits"])
            self.has_switched = carry["switched"]
        for metric, shape in carry["grown"].items():
            self.latency[metric] = Latency.from_status(shape)
            self._cut(metric)
        shares = {(one["metric"], one.get("quantile")): Account.from_status(one) for one in carry["accounts"]}
        self.errors = shares[(ERRORS, None)]
        for metric, pairs in self.cuts.items():
            self.cuts[metric] = [
                (cut, shares.get((metric, cut.quantiles[0]), account)) for cut, account in pairs
            ]
        self.last = Last.USED


def _is_same(one: Custom, other: Custom) -> bool:
    """Tell whether two settings of a metric read the same thing, so that evidence goes on."""
    return (one.kind, one.queries) == (other.kind, other.queries)


def _is_healthy(stable: RoleWindow, settings: Settings) -> bool:
    """Tell whether stable itself kept the SLO; too few errors, or none that were counted, say nothing."""
    bad, trials = stable.errors or 0, stable.requests or 0
    return bad < UNHEALTHY_ERRORS or bad <= settings.errors.slo * trials


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
