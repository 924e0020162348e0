"""Metrics of a policy's own, from the policy through the plan to the status that people see."""

from datetime import timedelta

from modelops.analysis.samples import Reading
from modelops.controllers.measure import run_of
from modelops.controllers.store import OwnRow
from modelops.rollouts.state import Phase
from tests.serving.cluster import Traffic
from tests.serving.situations import SERVICE
from tests.serving.test_story import Story
from tests.serving.test_strategies import HALF, condition, story

OWN = [
    {
        "name": "bad-answers",
        "ratio": {"bad": "bad_total{$SELECTOR}", "total": "answers_total{$SELECTOR}"},
        "weight": 2,
    },
    {"name": "oom", "threshold": {"query": "sum(increase(oom_total{$CANARY}[$WINDOW]))", "max": 0}},
]
GOOD = {"bad-answers": Reading((20.0, 1000.0), (20.0, 1000.0)), "oom": Reading((0.0,))}
BAD = {**GOOD, "bad-answers": Reading((200.0, 1000.0), (20.0, 1000.0))}
KILLED = {**GOOD, "oom": Reading((2.0,))}


def started(readings, **traffic) -> Story:
    """Return a run under a policy with metrics of its own."""
    told = story({"canary": HALF, "analysis": {"window": "30s", "metrics": OWN}})
    told.cluster.traffic = Traffic(readings=readings, **traffic)
    return told.want("chat-2").until(Phase.PROGRESSING)


def analysis(told: Story) -> dict:
    return told.cluster.get(*SERVICE)["status"]["rollout"]["analysis"]


def test_a_good_version_is_promoted_and_both_numbers_are_shown():
    told = started(GOOD).until(Phase.BAKING)
    rows = {row["name"]: row for row in analysis(told)["metrics"]}
    assert (rows["bad-answers"]["canary"], rows["bad-answers"]["stable"]) == ("2%", "2%")
    assert (rows["oom"]["canary"], rows["oom"]["rule"].partition(",")[0]) == ("0", "needs at most 0")


def test_more_bad_answers_roll_back_with_the_numbers_that_decided():
    told = started(BAD).until(Phase.ROLLED_BACK)
    assert "bad-answers 20% vs 2%" in told.state.rejected[-1].reason


def test_a_broken_threshold_rolls_back_at_once():
    told = started(KILLED).until(Phase.ROLLED_BACK)
    assert "oom 2, needs at most 0, failed in 1 windows of 1" in told.state.rejected[-1].reason


def test_a_query_that_cannot_be_used_is_a_condition_and_promotes_nothing():
    sentence = "bad-answers: needs one value for each version, found 3"
    told = started({"oom": Reading((0.0,))}, unsupported={"bad-answers": sentence}).run(200)
    assert (told.state.phase, told.state.stable.version) == (Phase.PROGRESSING, "chat-1")
    assert condition(told.cluster, "RolloutHealthy") == ("Unknown", "InvalidQuery")


def test_what_is_measured_asks_the_queries_that_are_in_force():
    told = started(GOOD).run(3)
    run = run_of(OwnRow.of(told.cluster.get(*SERVICE)), timedelta(seconds=30), told.cluster.now.timestamp())
    custom = {metric.name: metric.custom for metric in run.metrics if metric.custom}
    assert custom["bad-answers"].queries == ("bad_total{$SELECTOR}", "answers_total{$SELECTOR}")
    assert (custom["bad-answers"].tolerated, custom["bad-answers"].unacceptable) == (0.01, 0.03)
    assert custom["oom"].most == 0.0
