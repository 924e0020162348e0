"""Recordings with known outcomes, and the refusals of broken ones."""

import copy
import json
from pathlib import Path

import pytest

from modelops.analysis.replay import Refused, replay

CASES = {
    case["name"]: case
    for case in json.loads((Path(__file__).parent / "data" / "judge-examples.json").read_text())["cases"]
}
RESULTS = {
    "example-no-harm-steady": ("Promote", 780, "CertificateComplete"),
    "example-no-harm-shared-incident": ("Promote", 840, "CertificateComplete"),
    "example-harm-errors": ("Rollback", 480, "RegressionEvidence"),
    "example-harm-ttft": ("Rollback", 420, "RegressionEvidence"),
    "example-no-information-silent": ("Inconclusive", None, "NoData"),
    "example-no-information-trickle": ("Continue", None, "Undecided"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_label_is_met(name):
    case = CASES[name]
    result = replay(case["input"])
    assert result["verdict"] in case["expect"]["verdict"]
    assert result["decidedAt"] is None or result["decidedAt"] <= case["expect"].get("decidedBySeconds", 10**9)
    if case["label"] == "no-information":
        assert result["verdict"] not in ("Promote", "Rollback")


@pytest.mark.parametrize("name", CASES)
def test_the_published_result_is_met(name):
    result = replay(CASES[name]["input"])
    assert (result["verdict"], result["decidedAt"], result["reason"]) == RESULTS[name]


def test_errors_of_four_percent_have_the_worked_numbers():
    result = replay(CASES["example-harm-errors"]["input"])
    errors = result["metrics"][0]
    assert result["message"] == "errors 5.2% vs 0.38% (n=250, 1576), evidence 169:1, bar 100:1"
    assert (errors["n"], round(errors["regression"]), round(errors["robust"])) == (
        {"canary": 250, "stable": 1576},
        1462,
        507,
    )
    assert round(result["intervals"][-1]["robust"]) == 169


def test_a_doubled_ttft_is_rolled_back_with_each_window_bounded():
    last = replay(CASES["example-harm-ttft"]["input"])["intervals"][-1]
    assert (f"{last['regression']:.1e}", f"{last['robust']:.1f}") == ("6.3e+07", "1229.6")


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param({"analysis": {"baseline": "None"}}, id="no baseline"),
        pytest.param({"canary": {"match": [{"header": {"name": "x", "value": "y"}}]}}, id="matched requests"),
    ],
)
def test_a_recording_is_judged_by_limits_where_the_policy_has_no_baseline(policy):
    harm, steady = (
        copy.deepcopy(CASES[f"example-{name}"]["input"]) for name in ("harm-errors", "no-harm-steady")
    )
    found = replay({**harm, "policy": policy})
    assert found["verdict"] == "Rollback"
    assert "limit 1%" in found["message"]
    assert replay({**steady, "policy": policy})["verdict"] == "Promote"


def test_the_same_recording_gives_the_same_bytes():
    texts = {json.dumps(replay(copy.deepcopy(CASES["example-harm-errors"]["input"]))) for _ in range(3)}
    assert len(texts) == 1


def test_windows_in_the_warm_up_are_told_and_not_used():
    first = replay(CASES["example-no-harm-steady"]["input"])["intervals"][:3]
    assert [(row["t"], row["reason"], row["used"]) for row in first] == [
        (60, "WarmingUp", False),
        (120, "WarmingUp", False),
        (180, "Undecided", True),
    ]


def _steady():
    return copy.deepcopy(CASES["example-no-harm-steady"]["input"])


def _without(path):
    def change(document):
        node = document
        for key in path[:-1]:
            node = node[key]
        del node[path[-1]]

    return change


def _with(path, value):
    def change(document):
        node = document
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value

    return change


REFUSALS = [
    pytest.param(_with(["extra"], 1), "input.extra: unknown field", id="unknown field"),
    pytest.param(
        _with(["samples", 3, "extra"], 1),
        "samples[3].extra: unknown field",
        id="unknown field of a sample",
    ),
    pytest.param(
        _with(["samples", 3, "stable", "tokens"], 1),
        "samples[3].stable.tokens: unknown field",
        id="unknown counter",
    ),
    pytest.param(
        _with(["samples", 3, "t"], -1800),
        "samples[3].t: needs a time after",
        id="unsorted times",
    ),
    pytest.param(
        _with(["samples", 3, "t"], -1754),
        "samples[3].t: needs a multiple of 15",
        id="off the scrape grid",
    ),
    pytest.param(
        _with(["samples", 3, "t"], 15 * 10**9),
        "samples[3].t: needs seconds",
        id="a year too many",
    ),
    pytest.param(
        _with(["samples", 3, "stable", "tpot"], [1, 2]),
        "samples[3].stable.tpot: needs 20",
        id="short row",
    ),
    pytest.param(
        _with(["samples", 3, "stable", "tpot", 4], 0),
        "samples[3].stable.tpot[4]: needs cumulative",
        id="falling row",
    ),
    pytest.param(
        _with(["samples", 3, "stable", "requests"], -1),
        "samples[3].stable.requests: needs a whole",
        id="negative",
    ),
    pytest.param(
        _with(["samples", 3, "stable", "errors"], 10**6),
        "samples[3].stable.errors",
        id="more bad than all",
    ),
    pytest.param(
        _with(["samples", 3, "weight"], 101),
        "samples[3].weight: needs",
        id="weight above 100",
    ),
    pytest.param(_with(["samples"], []), "samples: needs a list", id="no samples"),
    pytest.param(
        _with(["intervalSeconds"], 25),
        "intervalSeconds: needs a divisor",
        id="window no multiple",
    ),
    pytest.param(
        _without(["intervalSeconds"]),
        "intervalSeconds: needs whole seconds",
        id="no interval",
    ),
    pytest.param(
        _with(["startedAt"], "yesterday"),
        "startedAt: needs an RFC 3339",
        id="no instant",
    ),
    pytest.param(
        _with(["buckets", "ttft", 0], "0.5"),
        "buckets.ttft: needs ascending",
        id="unsorted bounds",
    ),
    pytest.param(
        _with(["buckets", "ttft", 0], 0.001),
        "buckets.ttft[0]: needs a bound",
        id="bound as a number",
    ),
    pytest.param(_with(["buckets", "tpot"], ["1"]), "buckets.tpot: needs bounds", id="no +Inf"),
    pytest.param(
        _with(["buckets", "itl"], ["+Inf"]),
        "buckets.itl: unknown",
        id="unknown histogram",
    ),
    pytest.param(
        _with(["baseline", "dispersion"], {"ttft": 0.5}),
        "baseline.dispersion.ttft",
        id="dispersion below 1",
    ),
    pytest.param(
        _with(["baseline", "podSpread"], {"e2e": 0.1}),
        "baseline.podSpread.e2e",
        id="spread of nothing",
    ),
    pytest.param(
        _with(["policy"], {"step": 1}),
        "policy.step: unknown field",
        id="unknown policy field",
    ),
    pytest.param(
        _with(["policy"], {"warmup": "soon"}),
        "policy.warmup: needs a duration",
        id="no duration",
    ),
    pytest.param(
        _with(["policy"], {"analysis": {"window": "15s"}}),
        "policy.analysis.window",
        id="short window",
    ),
    pytest.param(
        _with(["policy"], {"canary": {"steps": [5, 5]}}),
        "policy.canary.steps",
        id="steps not ascending",
    ),
    pytest.param(
        _with(["policy"], {"analysis": {"margins": {"latency": {"maxRegression": "40%"}}}}),
        "policy.analysis.margins.latency: needs maxRegression < unacceptable",
        id="margins the wrong way round",
    ),
    pytest.param(
        _with(["policy"], {"analysis": {"confidence": {"falseRollback": 0.6}}}),
        "policy.analysis.confidence",
        id="a budget of more than a half",
    ),
    pytest.param(
        _with(["policy"], {"analysis": {"metrics": [{"name": "toxicity"}]}}),
        "policy.analysis.metrics[0].name",
        id="a metric that is not recorded",
    ),
    pytest.param(
        _with(["policy"], {"analysis": {"preset": "None"}}),
        "policy.analysis.preset",
        id="nothing to judge",
    ),
    pytest.param(_with(["policy"], {"strategy": "Shadow"}), "policy.strategy", id="no canary"),
    pytest.param(
        _with(
            ["policy"], {"analysis": {"metrics": [{"name": "oom", "threshold": {"query": "oom", "max": 0}}]}}
        ),
        "policy.analysis.metrics[0].threshold: a threshold's query needs $CANARY",
        id="a query that names no version",
    ),
    pytest.param(
        _with(["policy"], {"analysis": {"metrics": [{"name": "oom", "threshold": {"querry": "oom"}}]}}),
        "policy.analysis.metrics[0].threshold.querry: unknown field",
        id="a misspelt part of a metric",
    ),
    pytest.param(
        _with(["policy"], {"analysis": {"metrics": [{"name": "oom", "counter": {}}]}}),
        "policy.analysis.metrics[0].counter.query",
        id="a metric without its query",
    ),
    pytest.param(
        _with(["samples", 20, "stable", "toxicity"], 1), "samples[20].stable.toxicity", id="an unknown metric"
    ),
]


@pytest.mark.parametrize(("change", "sentence"), REFUSALS)
def test_a_broken_recording_is_refused_in_one_sentence(change, sentence):
    document = _steady()
    change(document)
    with pytest.raises(Refused) as refusal:
        replay(document)
    assert str(refusal.value).startswith(sentence)
    assert "\n" not in str(refusal.value)


def _drop(predicate):
    def change(document):
        document["samples"] = [row for row in document["samples"] if not predicate(row)]

    return change


def _blank(field, span):
    def change(document):
        for row in document["samples"]:
            if row["t"] in span:
                row["canary"][field] = None

    return change


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_drop(lambda row: row["t"] == 390), id="a sample is missing"),
        pytest.param(
            lambda document: next(row for row in document["samples"] if row["t"] == 390).update(canary=None),
            id="a role was not scraped",
        ),
        pytest.param(
            lambda document: next(row for row in document["samples"] if row["t"] == 390).pop("canary"),
            id="a role is absent",
        ),
    ],
)
def test_a_gap_costs_its_window_and_no_time(change):
    document = _steady()
    change(document)
    rows = replay(document)["intervals"]
    gap = next(row for row in rows if row["t"] == 420)
    before = next(row for row in rows if row["t"] == 360)
    assert (gap["used"], gap["reason"]) == (False, "MetricsUnavailable")
    assert [gap[key] for key in ("regression", "robust", "certificate")] == [
        before[key] for key in ("regression", "robust", "certificate")
    ]


def test_a_counter_that_falls_drops_the_windows_it_touches():
    document = _steady()
    for row in document["samples"]:
        if row["t"] >= 390:
            row["canary"]["requests"] = row["canary"]["errors"] = 0
    used = {row["t"]: row["used"] for row in replay(document)["intervals"]}
    assert (used[360], used[420], used[480]) == (True, False, True)


def test_a_metric_that_was_not_scraped_leaves_the_others():
    document = _steady()
    _blank("ttft", range(15, 3000))(document)
    result = replay(document)
    assert (result["verdict"], result["reason"]) == ("Continue", "MetricsUnavailable")
    assert {row["name"]: row["n"]["canary"] > 0 for row in result["metrics"]} == {
        "errors": True,
        "ttft": False,
        "tpot": True,
    }


def test_a_metric_in_report_mode_neither_blocks_nor_accuses():
    document = copy.deepcopy(CASES["example-harm-ttft"]["input"])
    document["policy"] = {"analysis": {"metrics": [{"name": "ttft", "mode": "Report"}]}}
    result = replay(document)
    assert result["verdict"] != "Rollback"
    reported = [row for row in result["metrics"] if row["name"] == "ttft"]
    assert {row["weight"] for row in reported} == {0}
    assert max(row["regression"] for row in reported) > 1e6


def test_buckets_without_resolution_promote_nothing():
    document = _steady()
    document["buckets"]["ttft"] = ["1000", "+Inf"]
    for row in document["samples"]:
        for role in ("stable", "canary"):
            if row.get(role):
                row[role]["ttft"] = [row[role]["ttft"][-1]] * 2
    result = replay(document)
    assert (result["verdict"], result["reason"]) == ("Continue", "NoResolution")
    assert result["message"].startswith("ttft: needs requests of stable on both sides of a bucket bound")


def test_without_weights_the_dwell_is_that_of_all_steps():
    document = _steady()
    for row in document["samples"]:
        row.pop("weight", None)
    result = replay(document)
    assert (result["verdict"], result["decidedAt"]) == ("Promote", 780)
    document["policy"] = {"canary": {"minDwell": "3m"}}
    assert replay(document)["decidedAt"] == 840


def test_a_step_back_begins_the_dwell_anew():
    document = _steady()
    for row in document["samples"]:
        if 720 <= row["t"] < 780:
            row["weight"] = 25
    assert replay(document)["decidedAt"] == 900


def test_without_history_the_first_windows_become_the_history():
    document = _steady()
    document["samples"] = [row for row in document["samples"] if row["t"] >= 0]
    result = replay(document)
    assert result["verdict"] == "Promote"
    assert result["metrics"][1]["n"]["stable"] < result["metrics"][0]["n"]["stable"]


# --- metrics of a policy's own -----------------------------------------------------------------------

OWN = [
    {"name": "bad-answers", "ratio": {"bad": "bad{$SELECTOR}", "total": "all{$SELECTOR}"}},
    {"name": "oom", "threshold": {"query": "oom{$CANARY}", "max": 0, "failureLimit": 1}},
    {"name": "speed", "gauge": {"query": "speed{$SELECTOR}", "better": "Higher"}},
]


def _recorded(canary_bad=0.02, oom=0, *, metrics=OWN):
    """Return the steady recording with metrics of its own: a tenth of the requests was scored."""
    document = _steady()
    document["policy"] = {"analysis": {"metrics": metrics}}
    for row in document["samples"]:
        for name, bad in (("stable", 0.02), ("canary", canary_bad)):
            role = row.get(name)
            if role:
                total = role["requests"] // 10
                role["bad-answers"] = {"bad": int(total * bad), "total": total}
                role["speed"] = 100.0
        if row.get("canary") and row["t"] > 300:
            row["canary"]["oom"] = oom
    return document


def test_metrics_of_its_own_are_replayed():
    result = replay(_recorded())
    assert {row["name"] for row in result["metrics"]} >= {"bad-answers", "oom", "speed"}
    assert result["verdict"] == "Continue"  # a tenth of the requests is too few for proof so soon
    ratio = next(row for row in result["metrics"] if row["name"] == "bad-answers")
    assert 1 < ratio["certificate"] < 20


def test_a_metric_of_its_own_rolls_a_recording_back():
    result = replay(_recorded(canary_bad=0.4))
    assert (result["verdict"], result["reason"]) == ("Rollback", "RegressionEvidence")
    assert "bad-answers" in result["message"]


def test_a_threshold_of_its_own_rolls_a_recording_back():
    result = replay(_recorded(oom=2))
    assert (result["verdict"], result["reason"], result["decidedAt"]) == ("Rollback", "ThresholdFailed", 420)
    assert result["message"] == "oom 2, needs at most 0, failed in 2 windows of 2, at most 1 tolerated"


def test_what_was_not_recorded_of_a_metric_is_missing_and_costs_the_others_nothing():
    document = _recorded(canary_bad=0.4)
    for row in document["samples"]:
        if row.get("canary"):
            row["canary"]["bad-answers"] = None
    result = replay(document)
    assert result["verdict"] == "Continue"
    assert replay(_steady())["verdict"] == "Promote"


def test_a_histogram_of_its_own_has_buckets_in_the_recording():
    metrics = [{"name": "queue", "histogram": {"metric": "queue_seconds"}}]
    document = _steady()
    document["policy"] = {"analysis": {"metrics": metrics}}
    document["buckets"]["queue"] = document["buckets"]["ttft"]
    for row in document["samples"]:
        for name in ("stable", "canary"):
            if row.get(name):
                row[name]["queue"] = row[name]["ttft"]
    result = replay(document)
    assert result["verdict"] == "Promote"
    assert "queue" in {row["name"] for row in result["metrics"]}
    document["policy"] = {}
    with pytest.raises(Refused, match=r"buckets\.queue: unknown field"):
        replay(document)
