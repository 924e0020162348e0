"""What disturbs measuring, by name: raw series of two equal versions through samples and judge.

Each disturbance strikes the candidate alone.  It must neither roll back nor promote by itself, and the
numbers of the windows that it leaves alone must stay what they are.
"""

import math
from dataclasses import replace

import pytest

from modelops.analysis.frozen import History, freeze
from modelops.analysis.judge import judge
from modelops.analysis.samples import NOT_SCRAPED, PodSeries, RoleWindow, Scrapes, align
from modelops.analysis.settings import Metric, Settings

STABLE, CANARY = "a1a1a1a1", "b2b2b2b2"
WINDOWS, WINDOW, STEP = 12, 60, 30
INSTANTS = range(WINDOWS * 2 + 1)
A_WINDOW, FAILURES = 600, 2
SETTINGS = Settings(metrics=(Metric("errors"),), warmup=Settings().warmup * 0)
FROZEN = freeze(History((RoleWindow(2, 2 * A_WINDOW, 2 * FAILURES),) * 30, {}))


def counter(pod, revision, values, **labels):
    """Return a series; None is no sample."""
    pairs = ((STEP * i, value) for i, value in enumerate(values))
    known = tuple((float(t), float(value)) for t, value in pairs if value is not None)
    return PodSeries({"pod": pod, "modelops_revision": revision, **labels}, known)


def growing(by):
    return [by * i / 2 for i in INSTANTS]


def run(requests=None, errors=None, *, more=(), more_errors=()):
    """Return the windows and the verdict of a run; the lists are what was scraped of the candidate's pod."""
    ours = growing(A_WINDOW) if requests is None else requests
    bad = growing(FAILURES) if errors is None else errors
    theirs = [counter(f"s-{n}", STABLE, growing(A_WINDOW)) for n in (1, 2)]
    their_bad = [counter(f"s-{n}", STABLE, growing(FAILURES)) for n in (1, 2)]
    scrapes = Scrapes(
        [*theirs, *([counter("c-1", CANARY, ours)] if ours else []), *more],
        [[*their_bad, *([counter("c-1", CANARY, bad)] if bad else []), *more_errors]],
    )
    windows = align(
        scrapes, stable=STABLE, canary=CANARY, origin=0, until=WINDOWS * WINDOW, window=WINDOW, step=STEP
    )
    verdict = judge(SETTINGS, FROZEN, windows, started_at=0.0, at_last_step=True, dwell_served=True)
    return windows, verdict


def between(values, start, end, other):
    """Return *values* with *other* from the window *start* up to *end*."""
    return [other if 2 * start < i < 2 * end else value for i, value in enumerate(values)]


def used(windows):
    return [window.missing is None for window in windows]


def test_undisturbed_it_is_promoted():
    windows, verdict = run()
    assert all(used(windows))
    assert verdict.name == "Promote"


def test_prometheus_away_costs_its_windows_and_no_verdict():
    quiet, bad = (between(growing(by), 3, 6, None) for by in (A_WINDOW, FAILURES))
    windows, verdict = run(quiet, bad)
    assert [i for i, is_used in enumerate(used(windows)) if not is_used] == [3, 4, 5]
    assert {window.missing for window in windows if window.missing} == {NOT_SCRAPED}
    assert verdict.counted_seconds == (WINDOWS - 3) * WINDOW  # the clock stood in the gap
    whole = run()[1]
    assert verdict.metrics[0].n_canary == whole.metrics[0].n_canary - 3 * A_WINDOW
    assert verdict.name == "Promote"


def test_prometheus_still_away_promotes_nothing_and_says_what_is_missing():
    quiet, bad = (between(growing(by), 9, 99, None) for by in (A_WINDOW, FAILURES))
    _, verdict = run(quiet, bad)
    assert (verdict.name, verdict.reason) == ("Continue", "MetricsUnavailable")
    assert "found none; the weight stays" in verdict.message


def test_stale_samples_are_no_samples():
    """A pod that ended is in Prometheus for minutes; each value is at most half a window old."""
    ended = [value if i <= 7 else None for i, value in enumerate(growing(A_WINDOW))]
    windows, verdict = run(
        ended, [value if v is not None else None for value, v in zip(growing(2), ended, strict=True)]
    )
    assert used(windows) == [True] * 3 + [False] * (WINDOWS - 3)
    assert verdict.reason == "MetricsUnavailable"


def test_a_counter_reset_is_neither_a_burst_nor_a_loss():
    reset = [value if i < 9 else value - A_WINDOW * 4 for i, value in enumerate(growing(A_WINDOW))]
    fell = [value if i < 9 else value - FAILURES * 4 for i, value in enumerate(growing(FAILURES))]
    windows, verdict = run(reset, fell)
    counts = [(w.canary.requests, w.canary.errors) for w in windows if w.canary]
    assert counts == [(A_WINDOW, FAILURES)] * WINDOWS
    assert verdict.name == "Promote"


def test_a_restart_counts_what_came_after_it_and_never_below_zero():
    restarted = [value if i < 9 else A_WINDOW * (i - 9) / 2 for i, value in enumerate(growing(A_WINDOW))]
    windows, verdict = run(restarted, [0] * len(INSTANTS))
    assert [w.canary.requests for w in windows if w.canary][4] == A_WINDOW / 2
    assert verdict.robust < 4


def test_a_missing_error_series_is_no_error_while_the_pod_is_scraped():
    windows, verdict = run(errors=[])
    assert {w.canary.errors for w in windows if w.canary} == {0}
    assert verdict.name == "Promote"


def test_a_missing_request_series_is_unknown_and_not_zero():
    windows, verdict = run(requests=[], errors=[])
    assert not any(used(windows))
    assert (verdict.name, verdict.reason) == ("Continue", "MetricsUnavailable")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_partial_scrape_costs_its_window_alone(value):
    """S35: a value that is no finite number is a missing sample."""
    broken = [value if i == 9 else number for i, number in enumerate(growing(A_WINDOW))]
    windows, verdict = run(broken)
    assert [i for i, is_used in enumerate(used(windows)) if not is_used] == [4]
    assert verdict.name == "Promote"


def test_a_pod_that_missed_a_scrape_leaves_the_window_to_the_others():
    gappy = [None if i == 9 else value for i, value in enumerate(growing(A_WINDOW))]
    windows, _ = run(more=[counter("c-2", CANARY, gappy)])
    assert [w.canary.pods for w in windows if w.canary] == [2] * 4 + [1] + [2] * 7


def test_a_replaced_pod_is_counted_before_and_after_but_not_in_the_window_of_its_end():
    old = [value if i < 9 else None for i, value in enumerate(growing(A_WINDOW))]
    new = [None if i < 10 else A_WINDOW * (i - 10) / 2 for i in INSTANTS]
    windows, verdict = run(
        old, [0 if v is not None else None for v in old], more=[counter("c-2", CANARY, new)]
    )
    assert [i for i, is_used in enumerate(used(windows)) if not is_used] == [4]
    assert {w.canary.requests for w in windows if w.canary} == {A_WINDOW}
    assert verdict.name == "Promote"


def test_a_pod_that_was_replaced_by_a_worse_one_is_still_found():
    old = [value if i < 9 else None for i, value in enumerate(growing(A_WINDOW))]
    new, bad = ([None if i < 10 else by * (i - 10) / 2 for i in INSTANTS] for by in (A_WINDOW, 60))
    _, verdict = run(
        old,
        [0 if v is not None else None for v in old],
        more=[counter("c-2", CANARY, new)],
        more_errors=[counter("c-2", CANARY, bad)],
    )
    assert verdict.name == "Rollback"


def test_two_scrape_targets_of_a_pod_are_counted_once_each():
    """Two ports of a pod with the same series are two targets; one that misses a scrape spoils the pod."""
    twice = counter("c-1", CANARY, growing(A_WINDOW), instance="c-1:9401")
    windows, _ = run(more=[twice])
    assert {w.canary.pods for w in windows if w.canary} == {1}
    half = replace(twice, values=tuple(pair for pair in twice.values if pair[0] != 9 * STEP))
    windows, _ = run(more=[half])
    assert [i for i, is_used in enumerate(used(windows)) if not is_used] == [4]
