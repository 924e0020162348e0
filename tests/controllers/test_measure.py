"""Which runs are measured, from when on, and whose series are whose."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from modelops.controllers.measure import Measuring, run_of
from modelops.controllers.observations import Observations
from modelops.controllers.services import MEASURED
from modelops.controllers.store import OwnRow
from modelops.serving.snapshot import Measured
from tests.clients.scripted import serving

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
OLD, NEW = {"hash": "11111111", "version": "chat-1"}, {"hash": "22222222", "version": "chat-2"}
READY = {"runId": "run", "readyAt": NOW.isoformat(), "step": {"index": 0}}
MINUTE = timedelta(minutes=1)


def row(phase: str, *, stable: Any = OLD, **rollout: Any) -> OwnRow:
    """Return a service whose run is in *phase*."""
    status = {"stable": stable, "rollout": {**READY, "phase": phase, **rollout}}
    if "previous" not in rollout:
        status["candidate"] = NEW
    meta = {"namespace": "n", "name": "chat", "uid": "u", "resourceVersion": "1"}
    return OwnRow.of({"kind": "InferenceService", "metadata": meta, "spec": {}, "status": status})


@pytest.mark.parametrize("phase", ["Starting", "Progressing", "Paused", "Promoting"])
def test_a_run_is_measured_from_when_its_candidate_was_ready(phase):
    run = run_of(row(phase), MINUTE, NOW.timestamp() + 150)
    assert run is not None
    assert (run.stable, run.canary) == ("11111111", "22222222")
    assert (run.origin, run.closed) == (int(NOW.timestamp()), 2)


def test_while_it_bakes_what_served_before_stands_in_stables_place():
    run = run_of(row("Baking", stable=NEW, previous=OLD), MINUTE, NOW.timestamp() + 150)
    assert run is not None
    assert (run.stable, run.canary) == ("11111111", "22222222")


@pytest.mark.parametrize("phase", ["Stable", "RolledBack", "RollingBack", "Reverting", "Superseding"])
def test_nothing_is_measured_that_nobody_judges(phase):
    assert run_of(row(phase), MINUTE, NOW.timestamp() + 150) is None


def test_a_window_is_read_when_its_last_scrape_is_surely_stored():
    runs = [run_of(row("Progressing"), MINUTE, NOW.timestamp() + seconds) for seconds in (60, 62.9, 63, 123)]
    assert [run and run.closed for run in runs] == [0, 0, 1, 2]


# --- Prometheus, as it comes and goes ----------------------------------------------------------------


class Asked:
    """A Prometheus that answers, or does not, and what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.count = 0

    def __call__(self, asked: Any) -> web.Response:
        self.count += 1
        if self.status != 200:
            return web.json_response({"status": "error", "errorType": "x", "error": "y"}, status=self.status)
        return web.json_response({"status": "success", "data": {"resultType": "matrix", "result": []}})


def rounds(*steps: tuple[int, int]) -> list[tuple[int, bool]]:
    """Measure once for each (seconds, status of Prometheus); return known windows, and whether it is away."""

    async def main() -> list[tuple[int, bool]]:
        asked, found = Asked(), []
        async with serving(asked) as server:
            prometheus = SimpleNamespace(url=server.url, timeout=timedelta(seconds=5))
            clock = SimpleNamespace(now=lambda: at)
            observations = Observations(lambda key: None)
            parts = SimpleNamespace(
                settings=SimpleNamespace(prometheus=prometheus), clock=clock, observations=observations
            )
            measuring = Measuring(parts)  # type: ignore[arg-type]
            for seconds, status in steps:
                asked.status, at = status, NOW + timedelta(seconds=seconds)
                run = run_of(row("Progressing"), MINUTE, at.timestamp())
                assert run is not None
                await measuring._measure(run)
                seen = observations.get(run.key, MEASURED)
                assert isinstance(seen, Measured)
                found.append((len(seen.windows), seen.away_since is not None))
            await measuring._prometheus.close()
        return found

    return asyncio.run(main())


def test_s36_prometheus_that_does_not_answer_leaves_the_windows_that_are_known_and_says_since_when() -> None:
    assert rounds((130, 200), (190, 503), (250, 503)) == [(2, False), (2, True), (2, True)]


def test_s36_prometheus_that_is_back_is_asked_for_the_gap_too() -> None:
    assert rounds((130, 200), (190, 503), (370, 200)) == [(2, False), (2, True), (6, False)]


def test_an_answer_is_asked_for_again_until_there_is_one_for_the_same_window() -> None:
    assert rounds((130, 503), (131, 200)) == [(0, True), (2, False)]


def test_a_query_of_the_engine_that_is_wrong_is_no_information_and_no_harm() -> None:
    assert rounds((130, 400)) == [(0, True)]
