"""What a policy says for a run that nothing is proven of, through the whole plan and the real judge."""

import pytest

from modelops.rollouts.state import Pause, Phase
from tests.serving.cluster import Traffic
from tests.serving.test_story import Story
from tests.serving.test_strategies import story

CANARY = {"steps": [50], "minDwell": "30s", "maxDuration": "90s"}
FEW = {"requests": 20, "errors": 0}
TRICKLE = Traffic(stable={"requests": 20, "errors": 0}, canary=FEW)


def undecided(*, canary=FEW, **analysis) -> Story:
    """Return a run whose requests are too few for any proof, over its maxDuration."""
    told = story({"canary": CANARY, "warmup": "0s", "analysis": {"window": "30s", **analysis}})
    told.cluster.traffic = Traffic(stable=TRICKLE.stable, canary=canary)
    return told.want("chat-2").until(Phase.PROGRESSING).run(140)


def test_a_policy_promotes_without_proof_what_was_judged_often_enough():
    told = undecided(onInconclusive="Promote", minRequests=50)
    assert told.state.stable.version == "chat-2"
    (promoted,) = [e.message for e in told.cluster.told.events if e.reason == "Promoted"]
    assert "needs a decision within 90s, found errors 0% vs 0% (n=60, 60)" in promoted
    assert "60 canary requests were judged, of which onInconclusive: Promote needs 50" in promoted


def test_a_policy_rolls_back_without_proof_what_was_judged_often_enough():
    told = undecided(onInconclusive="Rollback", minRequests=50)
    assert told.until(Phase.ROLLED_BACK).state.stable.version == "chat-1"
    (mark,) = told.state.rejected
    assert "60 canary requests were judged, of which onInconclusive: Rollback needs 50" in mark.reason


@pytest.mark.parametrize("action", ["Promote", "Rollback"])
def test_too_few_judged_requests_are_left_to_a_person(action):
    told = undecided(onInconclusive=action)
    assert told.state.paused_for == {Pause.INCONCLUSIVE}
    assert f"onInconclusive: {action} needs 500 judged canary requests, found 60" in told.state.message


def test_an_estimate_that_is_not_acceptable_is_never_promoted():
    told = undecided(onInconclusive="Promote", minRequests=50, canary={"requests": 20, "errors": 1})
    assert told.state.stable.version == "chat-1"
    assert told.state.paused_for == {Pause.INCONCLUSIVE}
    assert "within what is unacceptable, found errors 5% vs 0% (n=60, 60)" in told.state.message


def test_without_a_word_of_the_policy_a_person_decides():
    told = undecided()
    assert told.state.paused_for == {Pause.INCONCLUSIVE}
    assert "onInconclusive" not in told.state.message
