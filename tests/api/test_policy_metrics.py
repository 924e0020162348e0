"""Metrics of a policy's own: what is in force without a word, and what is refused with its field."""

from typing import Any

import pytest

from modelops.api.meta import Malformed
from modelops.api.metrics import CustomSetting, MarginName, MetricMode, MetricSetting
from modelops.api.policy import Margin, Policy, PolicySpec, Preset

RATIO = {"bad": "bad{$SELECTOR}", "total": "all{$SELECTOR}"}
GAUGE = {"query": "avg(speed{$SELECTOR})", "better": "Lower"}
LIMIT = {"query": "sum(oom{$CANARY})", "max": 0}


def in_force(*metrics: dict[str, Any], **spec: Any) -> Policy:
    analysis = {"metrics": list(metrics), **spec.pop("analysis", {})}
    return PolicySpec.model_validate({"analysis": analysis, **spec}).in_force()


@pytest.mark.parametrize(
    ("metric", "mode", "custom"),
    [
        pytest.param(
            {"ratio": RATIO},
            MetricMode.ENFORCE,
            CustomSetting("ratio", ("bad{$SELECTOR}", "all{$SELECTOR}"), MarginName.QUALITY),
            id="a ratio has the margin for quality",
        ),
        pytest.param(
            {"ratio": RATIO, "margin": "errors"},
            MetricMode.ENFORCE,
            CustomSetting("ratio", ("bad{$SELECTOR}", "all{$SELECTOR}"), MarginName.ERRORS),
            id="or the margin for errors by a word",
        ),
        pytest.param(
            {"score": {"sum": "s{$SELECTOR}", "count": "n{$SELECTOR}"}},
            MetricMode.ENFORCE,
            CustomSetting("score", ("s{$SELECTOR}", "n{$SELECTOR}"), MarginName.QUALITY),
            id="a score",
        ),
        pytest.param(
            {"counter": {"query": "oom{$SELECTOR}"}},
            MetricMode.ENFORCE,
            CustomSetting("counter", ("oom{$SELECTOR}",), MarginName.ERRORS),
            id="a counter",
        ),
        pytest.param(
            {"gauge": GAUGE},
            MetricMode.REPORT,
            CustomSetting("gauge", ("avg(speed{$SELECTOR})",), MarginName.LATENCY, is_higher_better=False),
            id="a gauge is only reported without a word",
        ),
        pytest.param(
            {"histogram": {"metric": "queue_seconds"}},
            MetricMode.ENFORCE,
            CustomSetting("histogram", ("queue_seconds",), MarginName.LATENCY),
            id="a histogram",
        ),
        pytest.param(
            {"threshold": {"query": "x{$CANARY}", "min": "0.95", "failureLimit": 3, "consecutive": True}},
            MetricMode.ENFORCE,
            CustomSetting("threshold", ("x{$CANARY}",), least=0.95, failure_limit=3, is_consecutive=True),
            id="a threshold",
        ),
    ],
)
def test_a_metric_of_its_own_is_complete(
    metric: dict[str, Any], mode: MetricMode, custom: CustomSetting
) -> None:
    policy = in_force({"name": "m", **metric})
    assert policy.metric_settings(Preset.LLM)[-1] == MetricSetting("m", mode, 1, custom)


def test_the_margin_for_quality_is_in_points() -> None:
    margins = {"quality": {"maxDrop": "0.5pp", "unacceptable": "2pp"}}
    assert in_force({"name": "ttft"}, analysis={"margins": margins}).quality == Margin(0.005, 0.02)


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        pytest.param({"name": "m"}, "spec.analysis.metrics[0].name: a metric of your own has", id="no kind"),
        pytest.param(
            {"name": "m", "ratio": RATIO, "gauge": GAUGE}, "spec.analysis.metrics[0].name", id="two kinds"
        ),
        pytest.param({"name": "ttft", "ratio": RATIO}, "spec.analysis.metrics[0].name", id="a built-in name"),
        pytest.param(
            {"name": "ttft", "margin": "errors"}, "spec.analysis.metrics[0].margin", id="its margin"
        ),
        pytest.param(
            {"name": "m", "gauge": GAUGE, "margin": "quality"}, "spec.analysis.metrics[0].margin", id="margin"
        ),
        pytest.param(
            {"name": "m", "counter": {"query": "oom"}},
            "spec.analysis.metrics[0].counter: a query needs $SELECTOR",
            id="a query for every version",
        ),
        pytest.param(
            {"name": "m", "threshold": {"query": "oom{$SELECTOR}", "max": 0}},
            "spec.analysis.metrics[0].threshold: a threshold's query needs $CANARY",
            id="a threshold of both versions",
        ),
        pytest.param(
            {"name": "m", "counter": {"query": "oom{$SELECTOR}[$RANGE]"}},
            "spec.analysis.metrics[0].counter: only $SELECTOR",
            id="an unknown name",
        ),
        pytest.param(
            {"name": "m", "threshold": {"query": "x{$CANARY}"}},
            "spec.analysis.metrics[0].threshold: a threshold needs min or max",
            id="no bound",
        ),
        pytest.param(
            {"name": "m", "threshold": {"query": "x{$CANARY}", "min": 2, "max": "1.5"}},
            "spec.analysis.metrics[0].threshold.min: wanted at most max, found 2 and 1.5",
            id="bounds the wrong way round",
        ),
        pytest.param(
            {"name": "m", "threshold": {"query": "x{$CANARY}", "max": "1e3"}},
            "spec.analysis.metrics[0].threshold.max: wanted a number",
            id="no number",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_with_its_field(metric: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Malformed) as refusal:
        in_force(metric)
    assert str(refusal.value).startswith(sentence)


ALONE = [
    pytest.param({"strategy": "BlueGreen"}, id="a preview"),
    pytest.param({"canary": {"match": [{"header": {"name": "a", "value": "b"}}]}}, id="matched requests"),
    pytest.param({"analysis": {"baseline": "None"}}, id="no baseline"),
]


@pytest.mark.parametrize("spec", ALONE)
def test_what_needs_a_stable_version_is_refused_where_there_is_none(spec: dict[str, Any]) -> None:
    with pytest.raises(Malformed, match=r"spec\.analysis\.metrics: ratio, counter, gauge and score need"):
        in_force(
            {"name": "m", "ratio": RATIO},
            **{key: dict(v) if isinstance(v, dict) else v for key, v in spec.items()},
        )


@pytest.mark.parametrize("spec", ALONE)
def test_bounds_and_latency_hold_where_there_is_no_stable_version(spec: dict[str, Any]) -> None:
    kept = {key: dict(v) if isinstance(v, dict) else v for key, v in spec.items()}
    metrics = (
        {"name": "m", "threshold": LIMIT},
        {"name": "h", "histogram": {"metric": "queue_seconds"}},
        {"name": "r", "ratio": RATIO, "mode": "Off"},
    )
    assert len(in_force(*metrics, **kept).metrics) == 3
