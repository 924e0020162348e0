"""What a policy's own metrics decide, each kind by its numbers, and how they go with the built-in ones."""

import json
from dataclasses import replace

import pytest

from modelops.analysis.judge import judge
from modelops.analysis.ledger import Era
from modelops.analysis.samples import Reading, Window
from modelops.analysis.settings import Baseline, Custom, Kind, Metric, Mode, Settings
from tests.analysis.test_limits import FROZEN, role

RATIO = Custom(Kind.RATIO, ("bad", "all"), 0.01, 0.03, is_points=True)
COUNTER = Custom(Kind.COUNTER, ("oom",), 0.25, 1.0)
SCORE = Custom(Kind.SCORE, ("sum", "count"), 0.01, 0.03, is_points=True)
SLOWER = Custom(Kind.GAUGE, ("speed",), 0.1, 0.3, is_higher_better=True)
FULLER = replace(SLOWER, is_higher_better=False)
LIMIT = Custom(Kind.THRESHOLD, ("oom",), most=0.0)
GOOD = role(200)


def windows(*readings, canary=GOOD, unsupported=None):
    return [
        Window(
            60.0 * i,
            60.0 * i + 60,
            role(200),
            canary,
            readings={} if reading is None else {"m": reading},
            unsupported=unsupported or {},
        )
        for i, reading in enumerate(readings)
    ]


def settings(custom, mode=Mode.ENFORCE, **more):
    return Settings(
        metrics=(Metric("errors"), Metric("ttft"), Metric("m", mode, custom=custom)),
        warmup=Settings().warmup * 0,
        **more,
    )


def decided(custom, *readings, in_force=None, **more):
    options = {"started_at": 0.0, "at_last_step": True, "dwell_served": True, **more}
    return judge(in_force or settings(custom), FROZEN, windows(*readings), **options)


def both(canary, stable):
    return Reading(tuple(map(float, canary)), tuple(map(float, stable)))


EQUAL = both((4, 200), (4, 200))
HARM = [
    pytest.param(RATIO, [both((40, 200), (4, 200))] * 8, "20% vs 2% (n=1600, 1600)", id="bad answers"),
    pytest.param(COUNTER, [both((5,), (0,))] * 4, "m 20 vs 0 (n=800, 800)", id="kills for memory"),
    pytest.param(SCORE, [both((20, 100), (90, 100))] * 25, "m 0.2 vs 0.9 (n=2500, 2500)", id="scores"),
    pytest.param(SLOWER, [both((50,), (100 + i,)) for i in range(12)], "m 50 vs 105.4 (n=12, 12)", id="less"),
    pytest.param(
        FULLER, [both((200,), (100 + i,)) for i in range(12)], "m 200 vs 105.4 (n=12, 12)", id="more"
    ),
]


@pytest.mark.parametrize(("custom", "readings", "numbers"), HARM)
def test_harm_rolls_back_with_its_numbers(custom, readings, numbers):
    verdict = decided(custom, *readings)
    assert (verdict.name, verdict.reason) == ("Rollback", "RegressionEvidence")
    assert numbers in verdict.message


@pytest.mark.parametrize(("custom", "readings", "numbers"), HARM)
def test_a_metric_in_report_shows_harm_and_decides_nothing(custom, readings, numbers):
    verdict = decided(custom, *readings, in_force=settings(custom, Mode.REPORT))
    assert verdict.name != "Rollback"
    row = verdict.metrics[-1]
    assert (row.weight, row.regression > 10) == (0.0, True)
    assert numbers in row.describe()


@pytest.mark.parametrize(
    ("custom", "reading"),
    [
        pytest.param(RATIO, EQUAL, id="as many bad answers"),
        pytest.param(COUNTER, both((0,), (0,)), id="no kills, of which no proof is asked"),
        pytest.param(SLOWER, both((100,), (98,)), id="as fast, of which no proof is asked"),
        pytest.param(LIMIT, Reading((0.0,)), id="within its bound"),
    ],
)
def test_a_good_version_is_promoted(custom, reading):
    assert decided(custom, *[reading] * 14).name == "Promote"


def test_scores_of_a_good_version_need_many_windows_for_proof():
    reading = both((90, 100), (90, 100))
    verdict = decided(SCORE, *[reading] * 14)
    assert (verdict.name, verdict.certificate < 20) == ("Continue", True)
    better = both((99, 100), (50, 100))
    assert decided(SCORE, *[better] * 14).name == "Promote"


@pytest.mark.parametrize("custom", [RATIO, COUNTER, SCORE, SLOWER, LIMIT])
def test_what_never_gave_a_number_is_never_promoted(custom):
    verdict = decided(custom, *[None] * 14)
    assert verdict.name == "Continue"
    assert verdict.beyond is not None


def test_windows_without_a_number_cost_the_others_nothing():
    gaps = [EQUAL, None] * 7
    assert decided(RATIO, *gaps).metrics[0] == decided(RATIO, *[EQUAL] * 14).metrics[0]
    assert decided(RATIO, *gaps).metrics[-1].n_canary == 1400


def test_the_first_window_of_a_ratio_only_guesses():
    assert decided(RATIO, both((200, 200), (0, 200))).metrics[-1].regression == 1.0


def test_counts_that_prometheus_stretched_are_worth_half():
    stretched = replace(RATIO, queries=("bad[$WINDOW]", "all[$WINDOW]"))
    readings = [both((16, 200), (4, 200))] * 4
    whole, half = (decided(custom, *readings).metrics[-1].regression for custom in (RATIO, stretched))
    assert 1 < half < whole


# --- thresholds --------------------------------------------------------------------------------------


def kept(*values, **custom):
    readings = (None if v is None else Reading((float(v),)) for v in values)
    return decided(replace(LIMIT, **custom), *readings, at_last_step=False)


@pytest.mark.parametrize(
    ("values", "custom", "wanted"),
    [
        pytest.param([0, 1], {}, "Rollback", id="one window too many"),
        pytest.param([1, 0, 1, 0, 1], {"failure_limit": 3}, "Continue", id="as many as are tolerated"),
        pytest.param([1, 0, 1, 0, 1, 1], {"failure_limit": 3}, "Rollback", id="the fourth of three"),
        pytest.param(
            [1, 1, 0, 1, 1, 0], {"failure_limit": 2, "is_consecutive": True}, "Continue", id="not in a row"
        ),
        pytest.param(
            [1, 1, 1, 0], {"failure_limit": 2, "is_consecutive": True}, "Rollback", id="three in a row"
        ),
        pytest.param([None, None], {}, "Continue", id="no value counts neither way"),
        pytest.param([0.2], {"least": 0.5, "most": None}, "Rollback", id="below the least"),
    ],
)
def test_s39_windows_out_of_bounds_are_counted(values, custom, wanted):
    assert kept(*values, **custom).name == wanted


def test_a_threshold_tells_value_bound_and_count():
    assert kept(0, 2).message == ("m 2, needs at most 0, failed in 1 windows of 2, at most 0 tolerated")


def test_a_policy_of_thresholds_alone_promotes_what_kept_them():
    alone = Settings(metrics=(Metric("m", custom=LIMIT),), warmup=Settings().warmup * 0)
    verdict = decided(LIMIT, *[Reading((0.0,))] * 3, in_force=alone)
    assert (verdict.name, verdict.reason) == ("Promote", "ThresholdsKept")
    assert json.dumps(verdict.to_status(), allow_nan=False)
    assert decided(LIMIT, *[None] * 3, in_force=alone).name == "Continue"


def test_a_threshold_holds_where_nothing_runs_beside_it():
    alone = settings(LIMIT, baseline=Baseline.NONE)
    assert decided(LIMIT, Reading((3.0,)), in_force=alone).name == "Rollback"
    baking = decided(LIMIT, Reading((3.0,)), at_last_step=False, switched_at=0.0)
    assert baking.reason == "ThresholdFailed"


def test_nothing_is_compared_where_nothing_runs_beside_it():
    verdict = decided(RATIO, *[both((200, 200), (0, 200))] * 8, at_last_step=False, switched_at=0.0)
    assert verdict.name == "Continue"
    assert [row.name for row in verdict.metrics if row.name == "m"] == []


# --- a run -------------------------------------------------------------------------------------------


def test_a_query_that_cannot_be_used_blocks_the_promotion_and_says_so():
    seen = windows(*[None] * 14, unsupported={"m": "m: needs one value for each version, found 3"})
    verdict = judge(settings(RATIO), FROZEN, seen, started_at=0.0, at_last_step=True, dwell_served=True)
    assert (verdict.name, verdict.reason) == ("Continue", "InvalidQuery")
    assert verdict.message == "m: needs one value for each version, found 3"


def test_an_edited_query_begins_its_evidence_anew():
    readings = [both((40, 200), (4, 200))] * 8
    before = settings(replace(RATIO, queries=("other", "all")))
    edited = decided(RATIO, *readings, earlier=[Era(480.0, before)])
    assert edited.metrics[-1].n_canary == 200


def test_an_edited_margin_prices_only_the_windows_after_it():
    readings = [both((12, 200), (4, 200))] * 12
    lenient = replace(RATIO, tolerated=0.035, unacceptable=0.1)
    strict, edited = (
        decided(RATIO, *readings),
        decided(lenient, *readings, earlier=[Era(480.0, settings(RATIO))]),
    )
    assert 1 < edited.metrics[-1].regression < strict.metrics[-1].regression


@pytest.mark.parametrize("custom", [RATIO, COUNTER, SCORE, SLOWER, FULLER, LIMIT])
def test_a_summary_goes_on_when_windows_are_gone(custom):
    pair = both((3, 100), (2, 100))
    reading = {
        Kind.THRESHOLD: Reading((0.0,)),
        Kind.GAUGE: both((97,), (99,)),
        Kind.COUNTER: both((2,), (1,)),
    }
    seen = [reading.get(custom.kind, pair)] * 12
    whole = decided(custom, *seen)
    carry = json.loads(json.dumps(decided(custom, *seen[:9]).carry))
    rest = judge(
        settings(custom),
        FROZEN,
        windows(*seen)[9:],
        started_at=0.0,
        at_last_step=True,
        dwell_served=True,
        carry=carry,
    )
    assert rest.to_status() == whole.to_status()
