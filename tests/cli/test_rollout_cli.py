"""Which run an action is for, and when there is none."""

import pytest

from modelops.cli.refusal import Refused
from modelops.cli.rollout import run_of

CANDIDATE = {"version": "chat-2", "hash": "bbbb2222"}


def _service(phase="Progressing", **rest):
    rollout = {"phase": phase, "runId": "run-2", **rest.pop("rollout", {})}
    return {"metadata": {"name": "chat"}, "status": {"candidate": CANDIDATE, "rollout": rollout, **rest}}


@pytest.mark.parametrize(
    ("action", "service", "run_id"),
    [
        pytest.param("abort", _service(), "run-2", id="abort a step"),
        pytest.param("abort", _service("AwaitingApproval"), "run-2", id="abort what waits"),
        pytest.param("promote", _service("Paused"), "run-2", id="promote what is paused"),
        pytest.param("pause", _service(), "run-2", id="pause a step"),
        pytest.param("resume", _service("Paused"), "run-2", id="resume what is paused"),
        pytest.param(
            "resume",
            _service("Paused", rollout={"acted": {"action": "Pause", "runId": "run-2"}}),
            "run-2",
            id="resume after a pause",
        ),
        pytest.param(
            "resume",
            _service(
                "Paused", rollout={"acted": {"action": "Resume", "runId": "run-2", "wait": 1}, "wait": 2}
            ),
            "run-2",
            id="resume a second time",
        ),
        pytest.param("pause", _service("Starting"), "run-2", id="pause before the first step"),
        pytest.param(
            "resume",
            _service("Starting", rollout={"pausedFor": ["User"]}),
            "run-2",
            id="resume before the first step",
        ),
        pytest.param(
            "retry",
            _service(
                "RolledBack",
                model="chat-3",
                rejected=[
                    {"hash": "c", "version": "chat-3", "runId": "run-3"},
                    {"hash": "d", "version": "chat-4", "runId": "run-4"},
                ],
            ),
            "run-3",
            id="retry the version that is wanted",
        ),
        pytest.param(
            "retry",
            _service(
                "Stable",
                model="chat-1",
                rejected=[{"hash": "c", "version": "chat-3", "runId": "run-3"}, {"hash": "e"}],
            ),
            "run-3",
            id="retry the last one that has a run",
        ),
    ],
)
def test_an_action_is_for_the_run_in_status(action, service, run_id):
    assert run_of(service, action) == run_id


@pytest.mark.parametrize(
    ("action", "service", "sentence"),
    [
        pytest.param("abort", _service("Stable"), "needs a run to abort, found phase Stable; ", id="no run"),
        pytest.param(
            "abort", _service("RolledBack"), "needs a run to abort, found phase RolledBack; ", id="over"
        ),
        pytest.param(
            "pause", {"metadata": {"name": "chat"}}, "needs a run to pause, found phase Stable; ", id="new"
        ),
        pytest.param(
            "pause",
            _service("Promoting"),
            "needs a run that starts or is at a step to pause, found phase Promoting; ",
            id="pause after the last step",
        ),
        pytest.param(
            "resume", _service(), "needs a paused run to resume, found phase Progressing; ", id="not paused"
        ),
        pytest.param(
            "promote",
            _service("Baking", candidate=None),
            "needs a candidate to promote, found none in phase Baking; ",
            id="promoted already",
        ),
        pytest.param(
            "promote",
            _service("RollingBack"),
            "needs a run that goes forward to promote, found phase RollingBack; ",
            id="promote what goes back",
        ),
        pytest.param(
            "retry", _service(), "needs a run that was rolled back to retry, found none; ", id="none rejected"
        ),
    ],
)
def test_an_action_that_would_do_nothing_is_refused(action, service, sentence):
    with pytest.raises(Refused) as refused:
        run_of(service, action)
    assert str(refused.value).startswith(f"chat: {sentence}")
