"""Read from Prometheus what running rollouts are judged by, and leave it for their plans."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from modelops.analysis import queries, readings, samples
from modelops.analysis.frozen import HISTORY_WINDOWS, Frozen, History
from modelops.analysis.samples import Bounds, PodSeries, Scrapes, Window
from modelops.analysis.settings import Metric
from modelops.clients.errors import Invalid, Unavailable
from modelops.clients.prometheus import Prometheus
from modelops.controllers.references import RUNNING, YES
from modelops.controllers.rows import loaded
from modelops.controllers.seam import Parts
from modelops.controllers.services import MEASURED
from modelops.controllers.store import Key, OwnRow
from modelops.engines import by_name
from modelops.engines.base import METERED, Queries
from modelops.plan import Reason
from modelops.rollouts.state import Phase, Revision, Rollout
from modelops.serving import eras
from modelops.serving.snapshot import Measured
from modelops.serving.status import read_rollout

log = logging.getLogger(__name__)

PAUSE_SECONDS = 2.0
SETTLE_SECONDS = 3.0
"""A window is read so long after it closed, when its last scrape has surely been stored."""


@dataclass(frozen=True, slots=True)
class Run:
    """One rollout to measure: where it is, and which windows are closed."""

    key: Key
    run_id: str
    stable: str
    canary: str
    origin: int
    """Epoch seconds from which windows are counted: when the candidate became ready."""
    window: int
    """Seconds."""
    closed: int
    """How many windows are over."""
    queries: Queries
    needs_history: bool
    bounds: Mapping[str, Bounds]
    """Buckets by metric, once they are frozen."""
    metrics: tuple[Metric, ...] = ()
    """What the run is judged by, with the queries of the policy's own metrics."""

    @property
    def step(self) -> float:
        """Return the distance of samples in seconds: two a window, so that a scrape may be late."""
        return self.window / 2


class Measuring:
    """Ask again whenever a window closed, and say since when Prometheus does not answer."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        settings = parts.settings.prometheus
        self._prometheus = Prometheus(settings.url, settings.timeout)
        self._measured: set[Key] = set()
        self._done: dict[Key, tuple[str, int]] = {}
        self._histories: dict[Key, tuple[str, History]] = {}

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            await asyncio.sleep(PAUSE_SECONDS)
            runs = self._runs()
            live = {run.key for run in runs}
            for gone in self._measured - live:
                self._done.pop(gone, None)
                self._histories.pop(gone, None)
                self._parts.observations.put(gone, MEASURED, None)
            self._measured = live
            for run in runs:
                await self._measure(run)

    def _runs(self) -> list[Run]:
        found = []
        now = self._parts.clock.now().timestamp()
        for row in self._parts.store.find("InferenceService", RUNNING, YES):
            if isinstance(row, OwnRow):
                run = run_of(row, self._window(row), now)
                if run is not None:
                    found.append(run)
        return found

    def _window(self, row: OwnRow) -> timedelta:
        seconds = ((loaded(row).get("status") or {}).get("rollout") or {}).get("windowSeconds")
        return timedelta(seconds=seconds) if seconds else timedelta(minutes=1)

    async def _measure(self, run: Run) -> None:
        mark = (run.run_id, run.closed)
        before = self._parts.observations.get(run.key, MEASURED)
        known = before if isinstance(before, Measured) else Measured()
        if known.run_id != run.run_id:
            known = Measured(run.run_id)
        if self._done.get(run.key) == mark and known.away_since is None:
            return
        try:
            measured = await self._ask(run)
        except (Unavailable, Invalid) as error:
            if known.away_since is None:
                log.warning("%s/%s: cannot measure: %s", run.key.namespace, run.key.name, error)
            away = known.away_since or self._parts.clock.now()
            measured = replace(known, away_since=away)
        else:
            self._done[run.key] = mark
        self._parts.observations.put(run.key, MEASURED, measured)

    async def _ask(self, run: Run) -> Measured:
        selector = queries.Selector(run.key.namespace, run.key.name, (run.stable, run.canary))
        end = run.origin + run.closed * run.window
        scrapes = await self._scrapes(run, selector, run.origin, end)
        windows = samples.align(
            scrapes,
            stable=run.stable,
            canary=run.canary,
            origin=run.origin,
            until=end,
            window=run.window,
            step=run.step,
            bounds=run.bounds,
        )
        windows = await self._read(run, windows, end)
        return Measured(run.run_id, windows, await self._history(run, selector))

    async def _history(self, run: Run, selector: queries.Selector) -> History | None:
        """Return stable's hour before the run; read once a run, since it is frozen then."""
        if not run.needs_history:
            return None
        known = self._histories.get(run.key)
        if known is not None and known[0] == run.run_id:
            return known[1]
        origin = run.origin - HISTORY_WINDOWS * run.window
        scrapes = await self._scrapes(run, selector, origin, run.origin)
        windows = samples.history(
            scrapes, stable=run.stable, origin=origin, until=run.origin, window=run.window, step=run.step
        )
        bounds = {m: found for m, found in samples.layouts(scrapes).items() if not isinstance(found, str)}
        history = History.of(windows, bounds)
        self._histories[run.key] = (run.run_id, history)
        return history

    async def _scrapes(self, run: Run, selector: queries.Selector, start: float, end: float) -> Scrapes:
        more = readings.histograms(run.metrics)
        answers = {
            text: await self._series(run, text, start, end)
            for text in queries.texts(run.queries, selector, more)
        }
        return queries.assemble(run.queries, selector, answers, more)

    async def _read(self, run: Run, windows: tuple[Window, ...], end: float) -> tuple[Window, ...]:
        """Return *windows* with what the policy's own queries gave; a wrong query spoils itself alone."""
        metrics = readings.read_metrics(run.metrics)
        if not metrics or not windows:
            return windows
        place = run.key.namespace, run.key.name
        roles = readings.Pair(*(queries.Selector(*place, (role,)) for role in (run.canary, run.stable)))
        answers: dict[str, list[PodSeries] | str] = {}
        for text in readings.texts(metrics, roles, run.window):
            try:
                answers[text] = await self._series(run, text, run.origin, end)
            except Invalid as error:
                answers[text] = str(error)
        found, faults = readings.readings(
            metrics, roles, answers, origin=run.origin, until=end, window=run.window, step=run.step
        )
        return tuple(
            replace(window, readings=one, unsupported={**window.unsupported, **faults})
            for window, one in zip(windows, found, strict=True)
        )

    async def _series(self, run: Run, text: str, start: float, end: float) -> list[PodSeries]:
        series = await self._prometheus.query_range(
            text,
            datetime.fromtimestamp(start, UTC),
            datetime.fromtimestamp(end, UTC),
            timedelta(seconds=run.step),
            lookback=timedelta(seconds=run.step),
        )
        return [PodSeries(s.labels, s.values) for s in series]


def run_of(row: OwnRow, window: timedelta, now: float) -> Run | None:
    """Return what to measure for a service; None when nothing is judged."""
    status = loaded(row).get("status") or {}
    state = read_rollout(status)
    stable, canary = _roles(state)
    if stable is None or canary is None or state.ready_at is None:
        return None
    settings = eras.in_force(state)
    seconds = int(window.total_seconds())
    origin = int(state.ready_at.timestamp())
    closed = max(0, int((now - SETTLE_SECONDS - origin) // seconds))
    return Run(
        key=Key("InferenceService", row.namespace, row.name),
        run_id=state.run_id,
        stable=stable.hash,
        canary=canary.hash,
        origin=origin,
        window=seconds,
        closed=closed,
        queries=_queries(status, canary),
        needs_history=not state.frozen,
        bounds=Frozen.from_status(state.frozen).bounds if state.frozen else {},
        metrics=settings.metrics if settings else (),
    )


def _roles(state: Rollout) -> tuple[Revision | None, Revision | None]:
    """Return what served before the run and what is new; while it bakes their roles have changed."""
    if state.phase is Phase.BAKING:
        return state.previous, state.stable
    is_measured = state.is_at_step or state.phase in (Phase.STARTING, Phase.PROMOTING)
    return (state.stable, state.candidate) if is_measured else (None, None)


def _queries(status: Mapping[str, Any], canary: Revision) -> Queries:
    """Return the metric names of the new version's engine."""
    records = (status.get("placement") or {}).get("revisions") or ()
    for record in records:
        if record.get("hash") == canary.hash:
            engine = by_name(record.get("engine", ""))
            return METERED if isinstance(engine, Reason) else engine.queries
    return METERED
