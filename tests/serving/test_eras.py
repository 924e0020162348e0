"""What a run is judged with is kept, and comes back as it was."""

from dataclasses import fields, replace
from datetime import timedelta

from modelops.analysis.settings import (
    Baseline,
    Confidence,
    Custom,
    ErrorMargin,
    Kind,
    LatencyMargin,
    Metric,
    Mode,
    Settings,
)
from modelops.rollouts.state import Era, Rollout, Span
from modelops.serving import eras
from tests.rollouts.world import NOW

OTHER = Settings(
    window=timedelta(seconds=30),
    warmup=timedelta(seconds=10),
    latency=LatencyMargin(0.2, 0.4),
    errors=ErrorMargin(0.5, 2.0, 0.01, 0.02),
    confidence=Confidence(0.02, 0.1),
    metrics=(
        Metric("errors", Mode.REPORT, 2.0),
        Metric("bad-answers", custom=Custom(Kind.RATIO, ("a{$SELECTOR}", "b{$SELECTOR}"), 0.01, 0.03, True)),
        Metric("oom", custom=Custom(Kind.THRESHOLD, ("o{$CANARY}",), most=0.5, failure_limit=2)),
    ),
    no_data_after=timedelta(minutes=3),
    max_duration=timedelta(minutes=20),
    min_dwell=timedelta(seconds=7),
    steps=(1, 2),
    baseline=Baseline.NONE,
)


def test_settings_come_back_as_they_were():
    assert eras.of_wire(eras.to_wire(OTHER)) == OTHER


def test_every_field_of_the_settings_is_kept():
    plain = Settings()
    assert [f.name for f in fields(Settings) if getattr(OTHER, f.name) == getattr(plain, f.name)] == []


def test_the_window_in_which_an_edit_came_keeps_the_settings_that_it_began_with():
    edited = NOW + timedelta(seconds=100)
    kept = (Era(NOW, eras.to_wire(OTHER)), Era(edited, eras.to_wire(replace(OTHER, steps=(5,)))))
    (before,) = eras.earlier(Rollout(eras=kept))
    assert before.settings == OTHER
    assert before.until == (edited + OTHER.window).timestamp()
    assert eras.in_force(Rollout(eras=kept)).steps == (5,)


def test_pauses_are_told_in_epoch_seconds_and_the_last_goes_on():
    at = [NOW + timedelta(seconds=n) for n in (0, 10, 20, 25)]
    state = Rollout(pauses=(Span(at[0], at[1]),), paused_at=at[2])
    start = NOW.timestamp()
    assert eras.paused(state, at[3]) == ((start, start + 10), (start + 20, start + 25))
