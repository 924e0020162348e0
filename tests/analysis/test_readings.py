"""What the answers to a policy's own queries are worth, window by window."""

import pytest

from modelops.analysis.queries import Selector
from modelops.analysis.readings import Pair, histograms, read_metrics, readings, texts
from modelops.analysis.samples import PodSeries, Reading
from modelops.analysis.settings import Custom, Kind, Metric, Mode

ROLES = Pair(Selector("quickstart", "chat", ("b2",)), Selector("quickstart", "chat", ("a1",)))
CANARY, STABLE = ROLES.canary.matchers(), ROLES.stable.matchers()
RAW = Custom(Kind.RATIO, ("bad{$SELECTOR}", "all{$SELECTOR}"))
COUNTED = Custom(
    Kind.RATIO, ("sum(increase(bad{$SELECTOR}[$WINDOW]))", "sum(increase(all{$SELECTOR}[$WINDOW]))")
)
GAUGE = Custom(Kind.GAUGE, ("avg(speed{$SELECTOR})",))
LIMIT = Custom(Kind.THRESHOLD, ("oom{$CANARY}",), most=0.0)
SCORE = Custom(Kind.SCORE, ("sum{$SELECTOR}", "count{$SELECTOR}"))
WINDOW = 60


def series(*values, pod="p", **labels):
    """Return one series with a value each half a window from 1000 s on; None is no sample."""
    pairs = tuple((1000.0 + 30 * i, float(v)) for i, v in enumerate(values) if v is not None)
    return PodSeries({"pod": pod, **labels}, pairs)


def read(custom, canary, stable=None, *, windows=1):
    """Return the readings of metric m, and what is wrong with it; answers stand in order of the queries."""
    answers = {}
    for role, given in ((ROLES.canary, canary), (ROLES.stable, stable if stable is not None else canary)):
        for query, answer in zip(custom.queries, given, strict=True):
            text = query.replace("$SELECTOR", role.matchers()).replace("$CANARY", role.matchers())
            answers[text.replace("$WINDOW", "60s")] = answer
    found, faults = readings(
        {"m": custom}, ROLES, answers, origin=1000, until=1000 + windows * WINDOW, window=WINDOW, step=30
    )
    return [row.get("m") for row in found], faults.get("m", "")


def test_a_query_is_filled_in_for_each_version_it_asks_about():
    assert texts({"a": RAW, "b": LIMIT}, ROLES, WINDOW) == (
        f"bad{{{CANARY}}}",
        f"all{{{CANARY}}}",
        f"bad{{{STABLE}}}",
        f"all{{{STABLE}}}",
        f"oom{{{CANARY}}}",
    )
    assert texts({"a": COUNTED}, ROLES, 90)[0] == f"sum(increase(bad{{{CANARY}}}[90s]))"


def test_counters_are_differenced_by_pod_and_added_up():
    bad = [series(0, 1, 3), series(5, 5, 6, pod="q")]
    total = [series(10, 20, 30), series(100, 110, 140, pod="q")]
    assert read(RAW, (bad, total)) == ([Reading((4.0, 60.0), (4.0, 60.0))], "")


def test_a_counter_that_is_born_with_its_first_event_counts_from_zero():
    assert read(RAW, ([series(None, None, 2)], [series(10, 20, 30)]))[0] == [
        Reading((2.0, 20.0), (2.0, 20.0))
    ]


def test_a_counter_reset_counts_what_came_after_it():
    assert read(RAW, ([series(7, 0, 2)], [series(90, 4, 30)]))[0] == [Reading((2.0, 30.0), (2.0, 30.0))]


def test_a_pod_that_was_not_scraped_all_the_time_is_left_out_of_its_window():
    total = [series(10, 20, 30), series(100, None, 140, pod="gone")]
    assert read(RAW, ([], total))[0] == [Reading((0.0, 20.0), (0.0, 20.0))]


def test_a_replaced_pod_is_two_pods():
    total = [series(10, 20, 30, None, None), series(None, None, 0, 25, 60, pod="new")]
    assert read(RAW, ([], total), windows=2)[0] == [
        Reading((0.0, 20.0), (0.0, 20.0)),
        Reading((0.0, 60.0), (0.0, 60.0)),
    ]


@pytest.mark.parametrize(
    ("custom", "canary", "stable"),
    [
        pytest.param(RAW, ([], []), None, id="no counters at all"),
        pytest.param(
            RAW, ([series(1, 2, 3)], [series(1, 2, 3)]), ([], []), id="counters of the canary alone"
        ),
        pytest.param(
            RAW, ([series(1, float("nan"), 3)], [series(1, 2, 3)]), None, id="no number in a counter"
        ),
        pytest.param(COUNTED, ([], [series(0, 0, 9)]), None, id="an empty part: add or vector(0)"),
        pytest.param(GAUGE, ([series(1, 1, float("inf"))],), None, id="an infinite level"),
        pytest.param(GAUGE, ([series(1, 1)],), None, id="a level that was gone at the end"),
    ],
)
def test_what_gives_no_number_is_missing_and_not_zero(custom, canary, stable):
    assert read(custom, canary, stable) == ([None], "")


def test_counts_of_a_window_are_taken_at_its_end():
    assert read(COUNTED, ([series(0, 9, 2)], [series(0, 9, 40.4)]))[0] == [Reading((2.0, 40.4), (2.0, 40.4))]


def test_a_threshold_asks_about_the_canary_alone():
    assert read(LIMIT, ([series(0, 0, 3)],))[0] == [Reading((3.0,))]


@pytest.mark.parametrize(
    ("custom", "answers", "sentence"),
    [
        pytest.param(
            GAUGE,
            ([series(1, 2, 3), series(1, 2, 3, pod="q")],),
            "m: needs one value for each version, found 2 from 'avg(speed{$SELECTOR})'; aggregate it, "
            "for example by sum(...)",
            id="several values are never reduced in silence",
        ),
        pytest.param(
            GAUGE,
            ("bad_data: parse error",),
            "m: needs a query that Prometheus understands, found 'avg(speed{$SELECTOR})': bad_data: "
            "parse error; correct it",
            id="a query that cannot work",
        ),
        pytest.param(
            SCORE,
            ([series(0, 0, 30)], [series(0, 0, 10)]),
            "m: needs scores from 0 to 1, found a mean of 3; scale them, or use a gauge",
            id="scores of another scale",
        ),
    ],
)
def test_a_query_that_cannot_be_used_is_told_in_a_sentence(custom, answers, sentence):
    assert read(custom, answers) == ([None], sentence)


def test_metrics_that_are_off_are_not_asked_for():
    metrics = (
        Metric("a", Mode.OFF, custom=RAW),
        Metric("b", Mode.REPORT, custom=GAUGE),
        Metric("slow", custom=Custom(Kind.HISTOGRAM, ("my_seconds",))),
        Metric("errors"),
    )
    assert list(read_metrics(metrics)) == ["b"]
    assert {name: raw.name for name, raw in histograms(metrics).items()} == {"slow": "my_seconds_bucket"}
