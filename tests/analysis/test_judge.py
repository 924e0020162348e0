"""What the judge decides, in which order, and the laws its numbers keep."""

import json
import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.analysis.accounts import Tally
from modelops.analysis.frozen import Frozen, History, Latency, Share, freeze
from modelops.analysis.judge import judge
from modelops.analysis.ledger import Era
from modelops.analysis.replay import load
from modelops.analysis.samples import RoleWindow, Window
from modelops.analysis.settings import ErrorMargin, Metric, Settings

BOUNDS = {"ttft": (0.1, 0.25, 0.5, 1.0, math.inf)}
SETTINGS = Settings(metrics=(Metric("errors"), Metric("ttft")))
FAST = (0.05, 0.6, 0.85, 0.99, 1.0)
SLOW = (0.01, 0.2, 0.45, 0.8, 1.0)
QUICK = (0.75, 0.996, 0.999, 1.0, 1.0)
"""What stable answers once half its load is gone: hardly a request is where FAST was cut."""
LESS_QUICK = (0.45, 0.97, 0.99, 1.0, 1.0)


def _role(requests, errors=0, shape=FAST, pods=4):
    return RoleWindow(
        pods,
        requests,
        errors,
        {"ttft": tuple(round(requests * share) for share in shape)},
    )


FROZEN = freeze(History((_role(400, 1),) * 30, BOUNDS))


def _window(number, canary, stable=None, weight=50.0):
    start = 120.0 + 60 * number
    return Window(start, start + 60, stable or _role(200, 0), canary, weight=weight)


def _gap(number):
    start = 120.0 + 60 * number
    return Window(start, start + 60, None, None, missing="NotScraped")


def _judge(windows, in_force=SETTINGS, frozen=FROZEN, **other):
    options = {"started_at": 0.0, "at_last_step": True, "dwell_served": True, **other}
    return judge(in_force, frozen, windows, **options)


EQUAL = [_window(i, _role(200, 0)) for i in range(10)]
FAILING = [_window(i, _role(200, 12)) for i in range(10)]
SLOWER = [_window(i, _role(200, 0, SLOW)) for i in range(10)]
SILENT = [_window(i, _role(0)) for i in range(10)]
SICK = [_window(i, _role(200, 30), _role(200, 30)) for i in range(10)]
IDLE_LAST = [*EQUAL, *(_window(10 + i, _role(0)) for i in range(10))]

DECISIONS = [
    pytest.param(
        EQUAL,
        {},
        ("Promote", "CertificateComplete"),
        id="proven equal at the last step",
    ),
    pytest.param(
        EQUAL,
        {"at_last_step": False},
        ("Continue", "Undecided"),
        id="proven but not at the last step",
    ),
    pytest.param(
        EQUAL,
        {"dwell_served": False},
        ("Continue", "Undecided"),
        id="proven but the dwell is not served",
    ),
    pytest.param(
        [*EQUAL, _gap(10)],
        {},
        ("Continue", "MetricsUnavailable"),
        id="proven but metrics are away",
    ),
    pytest.param([], {}, ("Continue", "WarmingUp"), id="nothing seen yet"),
    pytest.param(
        EQUAL,
        {"started_at": 1000.0},
        ("Continue", "WarmingUp"),
        id="windows of the warm-up only",
    ),
    pytest.param(FAILING, {}, ("Rollback", "RegressionEvidence"), id="fails more than stable"),
    pytest.param(
        SLOWER,
        {"at_last_step": False},
        ("Rollback", "RegressionEvidence"),
        id="slower than stable",
    ),
    pytest.param(
        [*FAILING, _gap(10)],
        {},
        ("Rollback", "RegressionEvidence"),
        id="harm is not forgotten in a gap",
    ),
    pytest.param(SILENT, {}, ("Inconclusive", "NoData"), id="no canary request for ten minutes"),
    pytest.param(
        SILENT[:9],
        {},
        ("Continue", "Undecided"),
        id="no canary request for nine minutes",
    ),
    pytest.param(
        SICK,
        {},
        ("Continue", "BaselineUnhealthy"),
        id="both fail alike: stable is unhealthy",
    ),
    pytest.param(
        [_window(i, _role(0), weight=0.0) for i in range(12)],
        {},
        ("Continue", "Undecided"),
        id="no request is missed while none is meant for the canary",
    ),
]


@pytest.mark.parametrize(("windows", "options", "wanted"), DECISIONS)
def test_the_verdict(windows, options, wanted):
    verdict = _judge(windows, **options)
    assert (verdict.name, verdict.reason) == wanted


def test_the_time_of_a_run_is_bounded():
    verdict = _judge([_window(i, _role(1)) for i in range(60)])
    assert (verdict.name, verdict.reason) == ("Inconclusive", "MaxDuration")


def test_the_clock_stands_in_gaps_and_pauses_but_evidence_counts():
    windows = [_window(i, _role(1)) for i in range(60)]
    gaps = [_gap(i) if i == 7 else window for i, window in enumerate(windows)]
    paused = _judge(windows, paused=((600.0, 630.0),))
    assert (_judge(gaps).reason, paused.reason) == ("Undecided", "Undecided")
    assert paused.counted_seconds == 59 * 60
    assert paused.metrics[0].n_canary == 60


def test_stable_may_have_recovered_two_windows_ago():
    sick = [_window(i, _role(200, 30), _role(200, 30)) for i in range(3)]
    later = [replace(window, start=window.start + 600, end=window.end + 600) for window in EQUAL]
    assert _judge([*sick, *later[:1]]).reason == "BaselineUnhealthy"
    assert _judge([*sick, *later[:2]]).reason != "BaselineUnhealthy"


def test_one_window_alone_does_not_roll_back():
    bad = [
        *EQUAL[:5],
        _window(5, _role(200, 25)),
        *(_window(6 + i, _role(200, 0)) for i in range(3)),
    ]
    verdict = _judge(bad, dwell_served=False)
    assert verdict.name == "Continue"
    assert verdict.robust < 4 < verdict.evidence


def test_overwhelming_evidence_rolls_back_at_once():
    verdict = _judge([_window(0, _role(200, 120))])
    assert (verdict.name, verdict.robust < verdict.rollback_at) == ("Rollback", True)
    assert verdict.message.startswith("errors 60% vs 0% (n=200, 200), evidence ")
    assert verdict.message.endswith("bar 1e6:1 for a single window")


def test_errors_below_the_floor_never_roll_back():
    windows = [_window(i, _role(2000, 8), _role(2000, 1)) for i in range(20)]
    assert _judge(windows, dwell_served=False).name == "Continue"
    strict = replace(SETTINGS, errors=ErrorMargin(ignore_below=0.0005))
    assert _judge(windows, strict).name == "Rollback"


def test_an_overloaded_canary_is_not_accused_of_its_latency():
    windows = [_window(i, _role(200, 0, SLOW, pods=1)) for i in range(10)]
    verdict = _judge(windows)
    assert (verdict.name, verdict.reason) == ("Continue", "NotComparable")
    assert verdict.evidence < 1


def test_an_underloaded_canary_gets_no_certificate_for_its_latency():
    windows = [_window(i, _role(200, 0, pods=8)) for i in range(10)]
    assert _judge(windows).reason == "NotComparable"
    assert _judge(windows, at_last_step=False).reason == "Undecided"
    assert _judge(windows).name == "Continue"


def test_an_error_always_counts_whatever_the_load():
    windows = [_window(i, _role(200, 12, pods=1)) for i in range(10)]
    assert _judge(windows).name == "Rollback"


def test_unknown_pods_switch_the_comparison_of_load_off():
    windows = [_window(i, _role(200, 0, SLOW, pods=None)) for i in range(10)]
    assert _judge(windows).name == "Rollback"


def test_unequal_buckets_block_the_promotion_and_say_so():
    bare = RoleWindow(4, 200, 0)
    windows = [replace(_window(i, bare, bare), unsupported={"ttft": "ttft: unequal"}) for i in range(10)]
    verdict = _judge(windows)
    assert (verdict.name, verdict.reason, verdict.message) == (
        "Continue",
        "NoResolution",
        "ttft: unequal",
    )


def test_a_metric_without_a_histogram_blocks_the_promotion():
    verdict = _judge(EQUAL, replace(SETTINGS, metrics=(Metric("errors"), Metric("tpot"))))
    assert (verdict.reason, verdict.message) == (
        "NoResolution",
        "tpot: needs a histogram of both versions, found none; switch the metric off or expose it",
    )


def test_short_history_is_filled_before_it_gives_evidence():
    short = freeze(History((_role(40, 1),) * 3, BOUNDS))
    assert short.latency["ttft"].is_pending
    verdict = _judge(EQUAL, frozen=short)
    assert verdict.metrics[1].n_stable == 200 * 9
    assert verdict.metrics[0].n_stable == 200 * 10


def test_histograms_that_appear_during_the_run_are_learnt():
    blind = freeze(History((RoleWindow(4, 400, 1),) * 30, {}))
    assert _judge(EQUAL, frozen=blind).reason == "NoResolution"
    assert _judge(EQUAL, frozen=blind.learn(BOUNDS)).name == "Promote"


def test_a_stable_version_that_was_never_seen_gives_no_comparison():
    unseen = Frozen(Share(0.5, 1.0), FROZEN.latency)
    verdict = _judge([_window(0, _role(200, 90), _role(200, 2))], frozen=unseen)
    assert verdict.metrics[0].regression == 1.0


def test_earlier_windows_keep_the_settings_they_were_judged_with():
    loose = replace(SETTINGS, errors=ErrorMargin(max_regression=40.0, unacceptable=80.0))
    loose_all = _judge(FAILING, loose)
    kept = _judge(FAILING, SETTINGS, earlier=(Era(1e9, loose),))
    assert loose_all.name != "Rollback"
    assert kept.metrics[0].regression == loose_all.metrics[0].regression
    assert _judge(FAILING, SETTINGS, earlier=(Era(0.0, loose),)) == _judge(FAILING)


def test_the_status_names_values_counts_evidence_and_bars():
    status = _judge(FAILING[:3]).to_status()
    assert status["evidence"]["holdAt"] == 4
    assert status["evidence"]["rollbackAt"] == 100
    row = status["metrics"][0]
    assert (row["name"], row["canary"], row["stable"], row["n"]) == (
        "errors",
        "6%",
        "0%",
        {"canary": 600, "stable": 600},
    )
    assert {row.get("boundary") for row in status["metrics"]} == {
        None,
        "0.25",
        "0.5",
        "1",
    }
    assert json.loads(json.dumps(status)) == status


def test_the_promotion_names_what_was_least_certain():
    verdict = _judge(EQUAL)
    weakest = min(row.certificate for row in verdict.metrics if row.certificate is not None)
    assert weakest == verdict.certificate >= 20
    assert "bar 20:1" in verdict.message


CASE = json.loads((Path(__file__).parent / "data" / "judge-examples.json").read_text())["cases"][2]["input"]


def _examples():
    recording = load(CASE)
    return recording.settings, recording.frozen, recording.windows


def test_evidence_is_recomputed_bit_for_bit():
    in_force, frozen, windows = _examples()
    stored = Frozen.from_status(json.loads(json.dumps(frozen.to_status())))
    assert stored == frozen
    for end in range(3, len(windows)):
        first, second = (_judge(windows[:end], in_force, one) for one in (frozen, stored))
        assert first == second
        assert first.evidence.hex() == second.evidence.hex()


def test_pending_histories_survive_the_status():
    short = freeze(History((_role(40, 1),) * 3, BOUNDS))
    assert Frozen.from_status(json.loads(json.dumps(short.to_status()))) == short


@pytest.mark.parametrize("lost", [1, 5, 9])
def test_a_summary_goes_on_when_windows_are_gone(lost):
    in_force, frozen, windows = _examples()
    known = _judge(windows[:10], in_force, frozen)
    carry = stored(known.carry)
    gone = [Window(w.start, w.end, None, None, missing="NotScraped") for w in windows[:lost]]
    whole = _judge(windows[:14], in_force, frozen)
    found = _judge([*gone, *windows[lost:14]], in_force, frozen, carry=carry)
    if lost == 1:  # only a window of the warm-up is gone, so nothing is
        assert found == whole
        return
    assert found.evidence == pytest.approx(whole.evidence)
    assert found.certificate == pytest.approx(whole.certificate)
    assert found.robust <= whole.robust * (1 + 1e-9)
    assert (found.counted_seconds, found.until) == (whole.counted_seconds, whole.until)
    assert [row.n_canary for row in found.metrics] == [row.n_canary for row in whole.metrics]


def test_a_summary_is_not_used_while_every_window_is_there():
    in_force, frozen, windows = _examples()
    carry = _judge(windows[:10], in_force, frozen).carry
    assert _judge(windows[:14], in_force, frozen, carry=carry) == _judge(windows[:14], in_force, frozen)


def test_a_summary_keeps_a_history_that_grew_in_the_run():
    short = freeze(History((_role(40, 1),) * 3, BOUNDS))
    carry = stored(_judge(EQUAL[:4], frozen=short).carry)
    gone = [_gap(i) for i in range(4)]
    found = _judge([*gone, *EQUAL[4:]], frozen=short, carry=carry)
    assert found.metrics[1].n_stable == 200 * 9


RELIEVED = [_window(i, _role(200, 0, QUICK), _role(200, 0, QUICK)) for i in range(14)]


def test_boundaries_follow_stable_when_load_is_taken_off_it():
    before, last = _judge(EQUAL[:1]), _judge(RELIEVED)
    assert [row.label for row in before.metrics[1:]] == ["ttft over 0.25s", "ttft over 0.5s", "ttft over 1s"]
    assert last.metrics[1].label == "ttft over 0.25s, then 0.1s"
    assert (last.name, last.reason) == ("Promote", "CertificateComplete")


def test_a_canary_that_is_slower_than_the_relieved_stable_is_still_found():
    slower = [_window(i, _role(200, 0, LESS_QUICK), _role(200, 0, QUICK)) for i in range(14)]
    assert _judge(slower).name == "Rollback"
    assert all(_judge(slower[:end]).name != "Promote" for end in range(14))


def test_boundaries_do_not_follow_the_canary():
    fast_canary = [_window(i, _role(200, 0, QUICK)) for i in range(10)]
    assert all(not row.earlier for row in _judge(fast_canary).metrics)


def test_boundaries_do_not_move_on_too_few_requests():
    trickle = [_window(i, _role(4, 0, QUICK), _role(4, 0, QUICK)) for i in range(40)]
    assert all(not row.earlier for row in _judge(trickle).metrics)


def test_a_summary_keeps_boundaries_that_moved():
    carry = stored(_judge(RELIEVED[:8]).carry)
    gone = [_gap(i) for i in range(8)]
    whole, found = _judge(RELIEVED), _judge([*gone, *RELIEVED[8:]], carry=carry)
    assert [row.label for row in found.metrics] == [row.label for row in whole.metrics]
    assert found.certificate == pytest.approx(whole.certificate)


roles = st.tuples(st.integers(0, 300), st.floats(0, 0.3), st.sampled_from([FAST, SLOW])).map(
    lambda drawn: _role(drawn[0], int(drawn[0] * drawn[1]), drawn[2])
)
runs = st.lists(st.tuples(roles, roles), min_size=1, max_size=8).map(
    lambda pairs: [_window(i, canary, stable) for i, (canary, stable) in enumerate(pairs)]
)


def _numbers(verdict):
    return [(row.regression, row.robust, row.certificate) for row in verdict.metrics]


@given(runs, st.integers(0, 8))
@settings(max_examples=60, deadline=None)
def test_a_missing_window_changes_nothing_but_time(windows, place):
    place = min(place, len(windows))
    later = [replace(w, start=w.start + 60, end=w.end + 60) for w in windows[place:]]
    gap = [*windows[:place], _gap(place), *later]
    assert _numbers(_judge(gap)) == _numbers(_judge(windows))
    assert _judge(gap).counted_seconds == _judge(windows).counted_seconds


@given(runs, roles)
@settings(max_examples=60, deadline=None)
def test_a_window_without_canary_requests_leaves_the_evidence(windows, stable):
    added = [*windows, _window(len(windows), _role(0), stable)]
    assert _numbers(_judge(added)) == _numbers(_judge(windows))


@given(runs)
@settings(max_examples=60, deadline=None)
def test_no_information_neither_rolls_back_nor_promotes(windows):
    silent = [replace(window, canary=_role(0)) for window in windows]
    assert _judge(silent).name in ("Continue", "Inconclusive")


@given(
    st.lists(st.tuples(*[st.floats(-5, 5)] * 3), max_size=9),
    st.sampled_from([1.0, 0.7]),
    st.sampled_from([0.5, 3.0]),
)
def test_no_window_counts_for_more_than_its_bound(rows, eta, most):
    tally = Tally()
    for row in rows:
        before = tally.robust()
        tally.add(row, eta, most=most)
        assert tally.robust() <= before * math.exp(most) * (1 + 1e-9)
    assert tally.robust() <= tally.evidence() * (1 + 1e-9)


@given(runs)
@settings(max_examples=60, deadline=None)
def test_evidence_is_positive_and_finite(windows):
    verdict = _judge(windows)
    values = [verdict.evidence, verdict.robust, verdict.certificate]
    assert all(0 <= value < math.inf for value in values)
    assert sum(row.weight for row in verdict.metrics) == pytest.approx(1)


@given(
    st.lists(st.integers(0, 400), min_size=5, max_size=5),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_a_frozen_history_survives_the_status(counts, windows, scale):
    row = tuple(sum(counts[: k + 1]) * scale for k in range(5))
    frozen = freeze(History((RoleWindow(2, row[-1], 0, {"ttft": row}),) * windows, BOUNDS))
    assert Frozen.from_status(json.loads(json.dumps(frozen.to_status()))) == frozen
    assert isinstance(frozen.latency["ttft"], Latency)


def test_the_warm_up_is_that_of_the_settings():
    assert _judge(EQUAL[:1], replace(SETTINGS, warmup=timedelta(minutes=3))).reason == "WarmingUp"
    assert _judge(EQUAL[:1]).reason == "Undecided"


def stored(carry):
    """Return what comes back from the API server: JSON without nulls, which it prunes."""
    without = lambda value: (  # noqa: E731
        {key: without(item) for key, item in value.items() if item is not None}
        if isinstance(value, dict)
        else [without(item) for item in value]
        if isinstance(value, list)
        else value
    )
    return without(json.loads(json.dumps(dict(carry))))
