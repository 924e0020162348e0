"""Which runs are measured, from when on, and whose series are whose."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelops.controllers.measure import run_of
from modelops.controllers.store import OwnRow

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
