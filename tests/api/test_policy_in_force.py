"""A policy in force has every default, and a malformed one names its field."""

from datetime import timedelta
from typing import Any

import pytest

from modelops.api.meta import Malformed
from modelops.api.policy import (
    Affinity,
    Baseline,
    Capacity,
    ErrorMargin,
    Margin,
    Matched,
    MetricMode,
    MetricSetting,
    Mirror,
    NoDataAction,
    OnInconclusive,
    OnRegression,
    PinnedBy,
    Policy,
    PolicySpec,
    Preset,
    Provider,
    RolloutPolicy,
    StepSetting,
    Strategy,
    Switch,
    Then,
    YourRoute,
)


def in_force(spec: dict[str, Any]) -> Policy:
    return PolicySpec.model_validate(spec).in_force()


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def test_an_empty_spec_is_a_complete_policy() -> None:
    assert in_force({}) == Policy(
        strategy=Strategy.CANARY,
        is_suspended=False,
        steps=(5, 10, 25, 50),
        step_settings=(),
        min_dwell=minutes(2),
        max_duration=minutes(60),
        capacity=Capacity.SURGE,
        matches=(),
        affinity=None,
        mirror=None,
        switch=None,
        warmup=minutes(2),
        preset=Preset.AUTO,
        window=minutes(1),
        baseline=Baseline.STABLE,
        latency=Margin(0.1, 0.3),
        errors=ErrorMargin(0.25, 1.0, 0.005, 0.01),
        quality=Margin(0.01, 0.03),
        false_rollback=0.01,
        missed_regression=0.05,
        metrics=(),
        no_data_after=minutes(10),
        no_data_action=NoDataAction.PAUSE,
        metrics_unavailable_after=minutes(60),
        on_regression=OnRegression.ROLLBACK,
        on_inconclusive=OnInconclusive.PAUSE,
        min_requests=500,
        progress_deadline=minutes(30),
        min_ready=timedelta(seconds=10),
        restart_limit=3,
        scale_down_delay=minutes(2),
        drain_timeout=minutes(10),
        abort_scale_down_delay=timedelta(seconds=30),
        rollback_window=3,
        provider=Provider.AUTO,
        your_route=None,
        accept_timeout=minutes(2),
        approves_start=False,
        approves_promotion=False,
    )


@pytest.mark.parametrize(
    ("canary", "steps"),
    [
        pytest.param({"steps": [20, 50]}, (20, 50), id="a list is taken as it is"),
        pytest.param({"stepWeight": 10}, (10, 20, 30, 40, 50), id="a series ends at 50"),
        pytest.param(
            {"stepWeight": 20, "maxWeight": 50}, (20, 40, 50), id="a series ends at maxWeight exactly"
        ),
        pytest.param({"stepWeight": 30, "maxWeight": 30}, (30,), id="a series of one"),
    ],
)
def test_steps_come_from_a_list_or_a_series(canary: dict[str, Any], steps: tuple[int, ...]) -> None:
    assert in_force({"canary": canary}).steps == steps


def test_a_step_has_its_own_dwell_and_pause() -> None:
    settings = [{"weight": 5, "minDwell": "5m", "pause": "10m"}, {"weight": 25, "pause": "Manual"}]
    policy = in_force({"canary": {"stepSettings": settings}})
    assert policy.setting(5) == StepSetting(5, minutes(5), minutes(10), waits_for_resume=False)
    assert policy.setting(25) == StepSetting(25, minutes(2), None, waits_for_resume=True)
    assert policy.setting(10) == StepSetting(10, minutes(2), None, waits_for_resume=False)


@pytest.mark.parametrize(
    ("analysis", "runtime", "names"),
    [
        pytest.param({}, Preset.LLM, "errors ttft tpot", id="Auto means the runtime's preset"),
        pytest.param({"preset": "Predictive"}, Preset.LLM, "errors e2e", id="a preset wins over the runtime"),
        pytest.param({"preset": "None"}, Preset.LLM, "", id="None judges by nothing"),
        pytest.param(
            {"metrics": [{"name": "e2e"}]}, Preset.LLM, "errors ttft tpot e2e", id="additions come last"
        ),
    ],
)
def test_a_preset_says_which_metrics_judge(analysis: dict[str, Any], runtime: Preset, names: str) -> None:
    metrics = in_force({"analysis": analysis}).metric_settings(runtime)
    assert [metric.name for metric in metrics] == names.split()


def test_a_metric_is_overridden_by_its_name() -> None:
    policy = in_force({"analysis": {"metrics": [{"name": "ttft", "mode": "Report", "weight": 2}]}})
    assert policy.metric_settings(Preset.LLM)[1] == MetricSetting("ttft", MetricMode.REPORT, 2)


@pytest.mark.parametrize(
    ("spec", "part", "value"),
    [
        pytest.param({}, "switch", None, id="a canary switches nothing"),
        pytest.param(
            {"strategy": "BlueGreen"},
            "switch",
            Switch(None, auto_promote=True, bake=minutes(10)),
            id="blue-green",
        ),
        pytest.param(
            {
                "strategy": "BlueGreen",
                "blueGreen": {"previewReplicas": 1, "autoPromote": False, "bake": "1m"},
            },
            "switch",
            Switch(1, auto_promote=False, bake=minutes(1)),
            id="blue-green with all it has",
        ),
        pytest.param({"strategy": "Shadow"}, "mirror", Mirror(10, minutes(30), Then.CANARY), id="shadow"),
        pytest.param(
            {"strategy": "Shadow", "shadow": {"percent": 100, "duration": "1h", "then": "Stop"}},
            "mirror",
            Mirror(100, minutes(60), Then.STOP),
            id="shadow with all it has",
        ),
        pytest.param(
            {"canary": {"mirrorFirst": {}}}, "mirror", Mirror(10, minutes(10), Then.CANARY), id="mirror first"
        ),
        pytest.param(
            {"canary": {"sessionAffinity": {}}}, "affinity", Affinity("modelops", minutes(60)), id="affinity"
        ),
        pytest.param(
            {"canary": {"sessionAffinity": {"cookie": "chat", "maxAge": "5m", "by": "Cookie"}}},
            "affinity",
            Affinity("chat", minutes(5), PinnedBy.COOKIE),
            id="affinity by cookies of ours",
        ),
        pytest.param({"traffic": {}}, "your_route", None, id="a route of the operator's"),
        pytest.param(
            {"traffic": {"routeRef": {"name": "web"}}},
            "your_route",
            YourRoute("HTTPRoute", "web"),
            id="a route of one's own",
        ),
        pytest.param(
            {"traffic": {"routeRef": {"kind": "GRPCRoute", "name": "web"}}},
            "your_route",
            YourRoute("GRPCRoute", "web"),
            id="a route of one's own for gRPC",
        ),
        pytest.param(
            {"canary": {"match": [{"cookie": {"name": "beta", "value": "1"}}]}},
            "matches",
            (Matched("beta", "1", is_cookie=True),),
            id="matched cookies",
        ),
    ],
)
def test_a_strategy_has_its_own_defaults(spec: dict[str, Any], part: str, value: object) -> None:
    assert getattr(in_force(spec), part) == value


def test_zero_restarts_are_not_the_default() -> None:
    assert in_force({"restartLimit": 0, "rollbackWindow": 0}).restart_limit == 0


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        pytest.param({"warmup": "soon"}, "spec.warmup", id="no duration"),
        pytest.param({"canary": {"steps": [10, 5]}}, "spec.canary.steps", id="steps fall"),
        pytest.param({"canary": {"steps": [5, 5]}}, "spec.canary.steps", id="a step twice"),
        pytest.param({"canary": {"steps": [5], "stepWeight": 5}}, "spec.canary.steps", id="list and series"),
        pytest.param(
            {"canary": {"stepWeight": 60}}, "spec.canary.stepWeight", id="series begins past its end"
        ),
        pytest.param({"canary": {"maxWeight": 60}}, "spec.canary.stepWeight", id="series without a distance"),
        pytest.param({"canary": {"minDwell": "1h"}}, "spec.canary.minDwell", id="dwell as long as the run"),
        pytest.param(
            {"canary": {"stepSettings": [{"weight": 7}]}},
            "spec.canary.stepSettings[0].weight",
            id="no such step",
        ),
        pytest.param(
            {"canary": {"stepSettings": [{"weight": 5, "pause": "x"}]}},
            "spec.canary.stepSettings[0].pause",
            id="no pause",
        ),
        pytest.param({"analysis": {"window": "29s"}}, "spec.analysis.window", id="window too short"),
        pytest.param({"analysis": {"window": "2h"}}, "spec.analysis.window", id="window too long"),
        pytest.param(
            {"analysis": {"margins": {"latency": {"maxRegression": "30%"}}}},
            "spec.analysis.margins.latency.maxRegression",
            id="margin not below the default limit",
        ),
        pytest.param(
            {"analysis": {"margins": {"errors": {"slo": "0.4%"}}}},
            "spec.analysis.margins.errors.ignoreBelow",
            id="SLO below what is ignored",
        ),
        pytest.param(
            {"analysis": {"confidence": {"falseRollback": 0.5}}},
            "spec.analysis.confidence.falseRollback",
            id="budget of a coin",
        ),
        pytest.param(
            {"analysis": {"preset": "None", "metrics": [{"name": "ttft"}]}},
            "spec.analysis.metrics",
            id="metrics that nobody reads",
        ),
        pytest.param({"strategy": "BlueGreen", "canary": {}}, "spec.canary", id="a canary without one"),
        pytest.param({"blueGreen": {}}, "spec.blueGreen", id="blue-green without the strategy"),
        pytest.param({"shadow": {}}, "spec.shadow", id="shadow without the strategy"),
        pytest.param(
            {"strategy": "Shadow", "canary": {"mirrorFirst": {}}}, "spec.canary", id="mirrored twice"
        ),
        pytest.param(
            {"strategy": "Shadow", "shadow": {"compare": "Responses"}},
            "spec.shadow.compare",
            id="answers compared",
        ),
        pytest.param(
            {"strategy": "Shadow", "canary": {"capacity": "Recreate"}},
            "spec.strategy",
            id="a shadow of what has ended",
        ),
        pytest.param(
            {"canary": {"capacity": "Recreate", "steps": [5]}}, "spec.canary.capacity", id="steps of nothing"
        ),
        pytest.param(
            {"canary": {"capacity": "Recreate"}, "approval": {"beforePromotion": True}},
            "spec.approval",
            id="a decision in the downtime",
        ),
        pytest.param(
            {"canary": {"match": [{"header": {"name": "x", "value": "y"}}], "steps": [5]}},
            "spec.canary.match",
            id="matched requests with shares",
        ),
        pytest.param({"canary": {"match": [{}]}}, "spec.canary.match[0]", id="a match of nothing"),
        pytest.param(
            {"canary": {"mirrorFirst": {}}, "traffic": {"provider": "Replicas"}},
            "spec.traffic",
            id="copies without a gateway",
        ),
        pytest.param(
            {"traffic": {"provider": "Replicas", "routeRef": {"name": "web"}}},
            "spec.traffic.routeRef",
            id="a route without a gateway",
        ),
        pytest.param(
            {"strategy": "Shadow", "traffic": {"routeRef": {"name": "web"}}},
            "spec.traffic",
            id="copies in a route of one's own",
        ),
        pytest.param(
            {"canary": {"sessionAffinity": {}}, "traffic": {"routeRef": {"name": "web"}}},
            "spec.traffic",
            id="pinned clients in a route of one's own",
        ),
        pytest.param({"hooks": [{}]}, "spec.hooks", id="block not built"),
        pytest.param({"traffic": {"provider": "External"}}, "spec.traffic.provider", id="provider not built"),
        pytest.param(
            {"analysis": {"metrics": [{"name": "x"}]}}, "spec.analysis.metrics[0].name", id="own metric"
        ),
    ],
)
def test_a_policy_that_slipped_past_admission_names_its_field(spec: dict[str, Any], path: str) -> None:
    with pytest.raises(Malformed) as refused:
        in_force(spec)
    assert str(refused.value).startswith(f"{path}: ")


def test_what_is_off_may_be_said() -> None:
    assert in_force({"approval": {"beforeStart": False}, "strategy": "Canary"}) == in_force({})


def test_a_field_of_the_wrong_type_names_object_and_field() -> None:
    spec = {"canary": {"steps": [5, "ten"]}}
    with pytest.raises(Malformed, match=r"^RolloutPolicy team-a/slow: spec\.canary\.steps\.1: "):
        RolloutPolicy.parse({"metadata": {"name": "slow", "namespace": "team-a"}, "spec": spec})


def test_a_policy_reads_back_what_it_wrote() -> None:
    policy = RolloutPolicy.parse(
        {"metadata": {"name": "slow"}, "spec": {"canary": {"stepWeight": 5}, "warmup": "1m"}}
    )
    assert policy.to_wire()["spec"] == {"canary": {"stepWeight": 5}, "warmup": "1m"}
    assert RolloutPolicy.parse(policy.to_wire()) == policy
