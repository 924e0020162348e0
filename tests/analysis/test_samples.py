"""Counters become counts: restarts, gaps, newborn series and unequal buckets."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.analysis.samples import (
    PodSeries,
    Scrapes,
    align,
    history,
    increase,
    layouts,
)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        pytest.param([5, 7, 7, 12], 7, id="grows"),
        pytest.param([100, 110, 3, 5], 15, id="a drop counts the new value"),
        pytest.param([None, None, 4, 6], 6, id="born within the window"),
        pytest.param([9, None, 2], 2, id="died and was born again"),
        pytest.param([1, math.nan, 3], None, id="no number"),
        pytest.param([1, math.inf], None, id="infinite"),
    ],
)
def test_increase(values, wanted):
    assert increase(values) == wanted


@given(st.lists(st.one_of(st.none(), st.integers(0, 10**9)), max_size=20))
def test_an_increase_is_never_negative(values):
    found = increase(values)
    assert found is not None
    assert found >= 0


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=10), st.integers(0, 10**6))
def test_without_a_restart_only_the_ends_count(steps, start):
    values = [start]
    for step in steps:
        values.append(values[-1] + step)
    assert increase(values) == values[-1] - values[0]


ORIGIN = 1_767_603_600.0
STEP = 15.0
STABLE, CANARY = "aaaa1111", "bbbb2222"


def _series(revision, pod, values, *, start=0, **labels):
    """Return one series whose i-th value is at ORIGIN + (start + i) * STEP; None is no sample."""
    instants = ((ORIGIN + (start + i) * STEP, value) for i, value in enumerate(values))
    return PodSeries(
        {
            "modelops_revision": revision,
            "pod": pod,
            "instance": f"{pod}:9400",
            **labels,
        },
        tuple((t, float(value)) for t, value in instants if value is not None),
    )


def _buckets(revision, pod, rows, bounds=("0.1", "1", "+Inf")):
    return [_series(revision, pod, [row[k] for row in rows], le=le) for k, le in enumerate(bounds)]


def _align(scrapes, *, windows=1, bounds=None):
    return align(
        scrapes,
        stable=STABLE,
        canary=CANARY,
        origin=ORIGIN,
        until=ORIGIN + 60 * windows,
        window=60,
        step=STEP,
        bounds=bounds or {},
    )


def test_counts_are_summed_over_the_pods_of_a_role():
    scrapes = Scrapes(
        requests=[
            _series(STABLE, "s-1", [0, 10, 20, 30, 40], code="2xx"),
            _series(STABLE, "s-2", [500, 510, 520, 530, 545], code="2xx"),
            _series(STABLE, "s-2", [7, 7, 8, 8, 8], code="5xx"),
            _series(CANARY, "c-1", [1, 2, 3, 4, 5], code="2xx"),
        ],
        errors=[[_series(STABLE, "s-2", [7, 7, 8, 8, 8], code="5xx")]],
        latency={
            "ttft": [
                *_buckets(
                    STABLE,
                    "s-1",
                    [(0, 0, 0), (1, 8, 10), (1, 16, 20), (2, 24, 30), (2, 30, 40)],
                ),
                *_buckets(STABLE, "s-2", [(0, 0, 0)] * 4 + [(5, 40, 46)]),
                *_buckets(
                    CANARY,
                    "c-1",
                    [(0, 0, 1), (0, 0, 2), (0, 1, 3), (0, 2, 4), (0, 3, 5)],
                ),
            ]
        },
    )
    (window,) = _align(scrapes)
    assert (window.start, window.end, window.missing) == (ORIGIN, ORIGIN + 60, None)
    assert (window.stable.pods, window.stable.requests, window.stable.errors) == (
        2,
        86,
        1,
    )
    assert (window.canary.pods, window.canary.requests, window.canary.errors) == (
        1,
        4,
        0,
    )
    assert window.stable.latency == {"ttft": (7, 70, 86)}
    assert window.canary.latency == {"ttft": (0, 3, 4)}


def test_the_larger_of_two_error_counts_is_taken_per_pod():
    requests = [
        _series(r, p, [0, 0, 0, 0, 50]) for r, p in ((STABLE, "s-1"), (STABLE, "s-2"), (CANARY, "c-1"))
    ]
    errors = [
        [
            _series(STABLE, "s-1", [0, 0, 0, 0, 3]),
            _series(STABLE, "s-2", [0, 0, 0, 0, 1]),
        ],
        [
            _series(STABLE, "s-1", [0, 0, 0, 0, 2]),
            _series(STABLE, "s-2", [0, 0, 0, 0, 4]),
        ],
    ]
    (window,) = _align(Scrapes(requests, errors))
    assert window.stable.errors == 7


def test_an_error_series_that_is_born_late_counts_from_zero():
    requests = [
        _series(STABLE, "s-1", [10, 20, 30, 40, 50]),
        _series(CANARY, "c-1", [0, 1, 2, 3, 4]),
    ]
    errors = [[_series(CANARY, "c-1", [2, 3], start=3)]]
    (window,) = _align(Scrapes(requests, errors))
    assert (window.stable.errors, window.canary.errors) == (0, 3)


@pytest.mark.parametrize(
    ("canary", "pods"),
    [
        pytest.param(
            [[0, 1, 2, 3, 4], [0, 1, None, 3, 4]],
            1,
            id="a pod that missed a scrape is left out",
        ),
        pytest.param([[0, 1, None, 3, 4]], None, id="no pod left drops the window"),
        pytest.param([[0, 1, math.nan, 3, 4]], None, id="NaN is a missing sample"),
        pytest.param([], None, id="no series drops the window"),
    ],
)
def test_a_window_needs_every_scrape(canary, pods):
    requests = [_series(STABLE, "s-1", [0, 1, 2, 3, 4])]
    requests += [_series(CANARY, f"c-{i}", values) for i, values in enumerate(canary)]
    (window,) = _align(Scrapes(requests))
    if pods is None:
        assert (window.stable, window.canary, window.missing) == (
            None,
            None,
            "NotScraped",
        )
    else:
        assert window.canary.pods == pods


def test_a_restarted_pod_counts_what_it_counted_since():
    requests = [
        _series(STABLE, "s-1", [100, 140, 5, 9, 20]),
        _series(CANARY, "c-1", [0, 0, 0, 0, 0]),
    ]
    (window,) = _align(Scrapes(requests))
    assert (window.stable.requests, window.canary.requests) == (60, 0)


def test_a_pod_that_starts_within_a_window_counts_from_the_next():
    requests = [
        _series(STABLE, "s-1", list(range(9))),
        _series(CANARY, "c-1", list(range(9))),
        _series(CANARY, "c-2", [0, 5, 10, 15, 20, 25], start=3),
    ]
    first, second = _align(Scrapes(requests), windows=2)
    assert (first.canary.pods, second.canary.pods) == (1, 2)
    assert (first.canary.requests, second.canary.requests) == (4, 4 + 20)


def test_an_open_window_is_not_counted():
    requests = [_series(STABLE, "s-1", [0] * 9), _series(CANARY, "c-1", [0] * 9)]
    windows = align(
        Scrapes(requests),
        stable=STABLE,
        canary=CANARY,
        origin=ORIGIN,
        until=ORIGIN + 119,
        window=60,
        step=STEP,
    )
    assert len(windows) == 1


def test_unequal_buckets_are_refused_and_the_rest_is_counted():
    requests = [_series(STABLE, "s-1", [0] * 5), _series(CANARY, "c-1", [0] * 5)]
    scrapes = Scrapes(
        requests,
        latency={
            "ttft": [
                *_buckets(STABLE, "s-1", [(0, 0, 0)] * 5),
                *_buckets(CANARY, "c-1", [(0, 0)] * 5, bounds=("0.2", "+Inf")),
            ],
            "tpot": [
                *_buckets(STABLE, "s-1", [(0, 0, 0)] * 5),
                *_buckets(CANARY, "c-1", [(0, 0, 0)] * 5),
            ],
        },
    )
    (window,) = _align(scrapes)
    assert window.unsupported["ttft"] == (
        "ttft: needs the same buckets on all pods of both versions, found 0.1 1 inf and 0.2 inf; "
        "configure both alike"
    )
    assert set(window.canary.latency) == {"tpot"}


def test_buckets_that_differ_from_the_frozen_ones_are_refused():
    series = [
        *_buckets(STABLE, "s-1", [(0, 0, 0)] * 5),
        *_buckets(CANARY, "c-1", [(0, 0, 0)] * 5),
    ]
    (window,) = _align(Scrapes(latency={"ttft": series}), bounds={"ttft": (0.5, math.inf)})
    assert "needs the buckets stable had before the run, 0.5 inf" in window.unsupported["ttft"]


def test_bounds_are_numbers_however_they_are_written():
    series = [
        *_buckets(STABLE, "s-1", [(0, 0, 0)], bounds=("0.10", "1.0", "+Inf")),
        *_buckets(CANARY, "c-1", [(0, 0, 0)], bounds=("0.1", "1", "+Inf")),
    ]
    assert layouts(Scrapes(latency={"ttft": series})) == {"ttft": (0.1, 1.0, math.inf)}


def test_the_history_is_told_by_pod():
    requests = [
        _series(STABLE, "s-1", list(range(9))),
        _series(STABLE, "s-2", list(range(0, 10, 2)), start=4),
    ]
    windows = history(
        Scrapes(requests),
        stable=STABLE,
        origin=ORIGIN,
        until=ORIGIN + 120,
        window=60,
        step=STEP,
    )
    assert [{pod: row.requests for pod, row in window.items()} for window in windows] == [
        {"s-1": 4},
        {"s-1": 4, "s-2": 8},
    ]


def test_requests_that_are_not_measured_are_unknown_and_not_zero():
    series = [
        *_buckets(STABLE, "s-1", [(0, 0, 0)] * 5),
        *_buckets(CANARY, "c-1", [(0, 0, 3)] * 5),
    ]
    (window,) = _align(Scrapes(latency={"ttft": series}))
    assert (window.canary.requests, window.canary.errors, window.canary.seen) == (
        None,
        None,
        0,
    )
