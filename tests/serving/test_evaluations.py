"""The Job that judges a candidate before its first request of users, through the whole plan."""

import json

import pytest

from modelops.rollouts.state import Phase
from tests.serving.restricted import refusals
from tests.serving.situations import SERVICE
from tests.serving.test_story import Story
from tests.serving.test_strategies import BLUE_GREEN, HALF, promote, route, story, weights

ASKED = {"image": "registry.example.com/evaluations/chat:1", "args": ["--suite", "release"], "timeout": "20m"}


def started(**spec) -> Story:
    """Return a run whose candidate is ready and is to be evaluated."""
    usual = {} if "strategy" in spec else {"canary": HALF}
    told = story({**usual, "evaluation": ASKED, **spec}).want("chat-2").until(Phase.STARTING)
    while not told.cluster.of("Job"):
        told.run(1)
    return told


def answer(told: Story, verdict: str, **more) -> Story:
    words = {"v": 1, "verdict": verdict, "samples": 762, "metrics": {"accuracy": "0.91"}, **more}
    told.cluster.finish_job(json.dumps(words))
    told.run(2)
    return told


def evaluation(told: Story) -> dict:
    return told.cluster.get(*SERVICE)["status"]["rollout"].get("evaluation", {})


def test_the_job_calls_both_versions_and_can_do_nothing_else():
    told = started()
    (job,) = told.cluster.of("Job")
    template = job["spec"]["template"]["spec"]
    (container,) = template["containers"]
    env = {one["name"]: one["value"] for one in container["env"]}
    candidate, stable = told.state.candidate.hash, told.state.stable.hash
    assert env["MODELOPS_CANDIDATE_URL"] == f"http://chat-{candidate}.quickstart.svc:8000"
    assert env["MODELOPS_STABLE_URL"] == f"http://chat-{stable}.quickstart.svc:8000"
    assert (container["image"], container["args"]) == (ASKED["image"], ASKED["args"])
    assert job["spec"]["activeDeadlineSeconds"] == 1200
    assert template["automountServiceAccountToken"] is False
    assert refusals(template) == []
    assert "modelops.dev/service" not in job["spec"]["template"]["metadata"]["labels"]


def test_no_request_of_users_reaches_a_candidate_that_is_not_evaluated():
    told = started().run(120)
    assert (told.state.phase, told.state.reason) == (Phase.STARTING, "EvaluationPending")
    assert weights(route(told.cluster)["spec"]["rules"][0])[-1] in (0, 100)
    assert told.state.weight == 0


def test_pass_lets_the_run_begin_and_is_told_once():
    told = answer(started(), "Pass").until(Phase.BAKING)
    assert [e.message for e in told.cluster.told.events if e.reason == "EvaluationPass"] == [
        "chat: chat-2: its evaluation says Pass, accuracy 0.91, n=762"
    ]
    (promoted,) = [e.message for e in told.cluster.told.events if e.reason == "Promoted"]
    assert "its evaluation says Pass, accuracy 0.91, n=762" in promoted


def test_fail_rolls_back_with_its_numbers_before_any_request():
    told = answer(started(), "Fail").until(Phase.ROLLED_BACK)
    assert told.state.rejected[-1].reason.startswith("chat: chat-2: its evaluation says Fail, accuracy 0.91")
    assert told.cluster.of("Job") == []


def test_a_doubtful_evaluation_needs_a_person_for_the_promotion():
    told = answer(started(), "Warn").until(Phase.AWAITING_APPROVAL)
    assert "its evaluation says Warn, accuracy 0.91" in told.state.message
    promote(told)
    told.until(Phase.BAKING)


@pytest.mark.parametrize(
    "words",
    [pytest.param("garbage", id="words that are no answer"), pytest.param('{"v": 9}', id="another protocol")],
)
def test_no_answer_neither_promotes_nor_rolls_back(words):
    told = started()
    told.cluster.finish_job(words)
    told.run(60)
    assert (told.state.phase, told.state.reason) == (Phase.STARTING, "EvaluationPending")
    assert "last words of the Job" in told.state.message
    assert "delete the Job to try again" in told.state.message


def test_a_job_that_failed_is_no_answer_and_is_made_again_when_it_is_deleted():
    told = started()
    (job,) = told.cluster.of("Job")
    told.cluster.finish_job("", exit_code=1)
    told.run(30)
    assert "failed (BackoffLimitExceeded" in told.state.message
    told.cluster.remove("Job", "quickstart", job["metadata"]["name"])
    told.run(2)
    assert [one["metadata"]["name"] for one in told.cluster.of("Job")] == [job["metadata"]["name"]]


def test_a_result_stays_when_its_job_goes():
    told = answer(started(), "Pass").until(Phase.PROGRESSING)
    (job,) = told.cluster.of("Job")
    told.cluster.remove("Job", "quickstart", job["metadata"]["name"])
    told.until(Phase.BAKING)
    assert told.cluster.of("Job") == []  # it is not asked twice in a run


def test_windows_in_which_it_was_evaluated_are_no_evidence():
    told = answer(started(warmup="0s").run(70), "Pass").until(Phase.PROGRESSING).run(5)
    analysis = told.cluster.get(*SERVICE)["status"]["rollout"]["analysis"]
    assert analysis["countedSeconds"] == 0.0


def test_a_new_run_is_evaluated_anew_and_the_old_job_goes():
    told = answer(started(), "Fail").until(Phase.ROLLED_BACK)
    action = {"action": "Retry", "runId": told.state.rejected[-1].run_id}
    told.cluster.edit(*SERVICE, {"spec": {"rollout": action}}).settle()
    told.until(Phase.STARTING)
    assert evaluation(told) == {}
    while not told.cluster.of("Job"):
        told.run(1)
    assert told.cluster.of("Job")[0]["metadata"]["name"].endswith(told.state.run_id)


def test_a_preview_is_evaluated_before_a_person_may_switch():
    told = started(**BLUE_GREEN).run(60)
    assert told.state.phase is Phase.STARTING
    answer(told, "Pass").until(Phase.AWAITING_APPROVAL)
