"""Which run an action is for, what is asked of it, and how a run is followed and told."""

import asyncio
import json

import pytest

from modelops.api.names import API_VERSION
from modelops.cli import runs
from modelops.cli.cluster import Cluster
from modelops.cli.refusal import Refused
from modelops.cli.rollout import follow, run_of, wish
from modelops.clients.kube import Kube
from tests.fakeapi.api import FakeApi
from tests.faults import virtual

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


# --- what is asked -----------------------------------------------------------------------------------

GATED = {"approval": {"model": "fraud"}, "wait": 2}


@pytest.mark.parametrize(
    ("action", "rollout", "user", "wanted"),
    [
        pytest.param(
            "promote",
            GATED,
            "bob",
            {"action": "Promote", "runId": "run-2", "wait": 2, "by": "bob", "approves": "fraud"},
            id="a promote that is an approval",
        ),
        pytest.param(
            "promote", {}, "bob", {"action": "Promote", "runId": "run-2", "by": "bob"}, id="a plain promote"
        ),
        pytest.param(
            "abort",
            GATED,
            "bob",
            {"action": "Abort", "runId": "run-2", "wait": 2, "by": "bob"},
            id="an abort approves nothing",
        ),
        pytest.param(
            "abort", {}, "", {"action": "Abort", "runId": "run-2"}, id="a server that does not say who we are"
        ),
    ],
)
def test_what_stands_in_the_spec(action, rollout, user, wanted):
    assert wish(_service("Paused", rollout=rollout), action, user) == wanted


# --- followed and told -------------------------------------------------------------------------------


def test_a_log_follows_a_run_with_one_line_for_each_change_and_ends_with_it(capsys):
    told = [
        {"phase": "Starting", "message": "chat: chat-2 starts"},
        {"phase": "Starting", "message": "chat: chat-2 starts"},
        {
            "phase": "Progressing",
            "step": {"index": 0, "of": 2},
            "traffic": {"desired": 20, "observed": 20},
            "message": "chat: chat-2 at 20 %: is warm",
        },
        {"phase": "Promoting", "traffic": {"desired": 100, "observed": 50}, "message": "chat: promoted"},
        {"phase": "Stable", "traffic": {"desired": 0, "observed": 0}, "message": "chat: promoted"},
    ]
    ended, out = _followed(told, capsys)
    assert ended == 0
    assert out == [
        "Starting 0%: chat: chat-2 starts",
        "Progressing step 1/2 20%: chat: chat-2 at 20 %: is warm",
        "Promoting 50%: chat: promoted",
        "Stable: chat: promoted",
    ]


def test_following_a_run_that_is_rolled_back_ends_with_1(capsys):
    told = [
        {"phase": "Progressing", "step": {"index": 0, "of": 2}, "message": "chat: chat-2 at 20 %"},
        {"phase": "RolledBack", "message": "chat: errors 8% vs 0.2% (n=3000, 3000); rolled back"},
    ]
    ended, out = _followed(told, capsys)
    assert ended == 1
    assert out[-1] == "RolledBack: chat: errors 8% vs 0.2% (n=3000, 3000); rolled back"


def _followed(told, capsys):
    """Follow a service on an API server whose run goes on every three seconds."""

    async def story():
        loop = asyncio.get_running_loop()
        async with FakeApi(monotonic=loop.time) as api:
            meta = {"name": "chat", "namespace": "ns", "generation": 1}
            kind = {"apiVersion": API_VERSION, "kind": "InferenceService"}
            api.seed({**kind, "metadata": meta, "spec": {"model": {"version": "chat-2"}}})
            kube = Kube(api.configuration("somebody"))
            try:
                following = asyncio.create_task(follow(Cluster(kube, "ns"), "chat"))
                for rollout in told:
                    candidate = (
                        {} if rollout["phase"] in ("Stable", "RolledBack") else {"candidate": CANDIDATE}
                    )
                    status = {"observedGeneration": 1, "rollout": rollout, **candidate}
                    api.edit("InferenceService", "ns", "chat", lambda obj, s=status: obj.update(status=s))
                    await asyncio.sleep(3)
                return await following
            finally:
                await kube.close()

    ended = virtual.run(story())
    return ended, capsys.readouterr().out.splitlines()


def test_the_whole_history_is_told_by_run():
    entries = [
        {"seq": 1, "runId": "r1", "version": "chat-1", "type": "Started", "to": "Starting"},
        {"seq": 2, "runId": "r1", "version": "chat-1", "type": "Serving", "from": "Starting", "to": "Stable"},
        {"seq": 3, "runId": "r2", "version": "chat-2", "type": "Started", "from": "Stable", "to": "Starting"},
        {
            "seq": 4,
            "runId": "r2",
            "version": "chat-2",
            "type": "WeightChanged",
            "weight": 20,
            "reason": "warm",
        },
        {
            "seq": 5,
            "runId": "r2",
            "version": "chat-2",
            "type": "Promote",
            "actor": {"kind": "User", "name": "alice"},
            "action": "Promote",
            "approves": "chat",
        },
        {
            "seq": 6,
            "runId": "r2",
            "version": "chat-2",
            "type": "RolledBack",
            "reason": "errors 8% vs 0.2% (n=3000, 3000)",
            "evidence": [{"metric": "all", "regression": "590:1"}],
        },
    ]
    history = [{**entry, "time": f"2026-03-01T12:00:0{entry['seq']}Z"} for entry in entries]
    service = _service("RolledBack", history=history, rejected=[{"hash": "bbbb2222"}])
    service["metadata"]["namespace"] = "ns"

    whole = runs.told(service)

    assert (whole["service"], whole["phase"]) == ({"namespace": "ns", "name": "chat"}, "RolledBack")
    first, second = whole["runs"]
    assert (first["outcome"], first["version"], first["until"]) == (
        "Serving",
        "chat-1",
        "2026-03-01T12:00:02Z",
    )
    assert (second["outcome"], [step["weight"] for step in second["steps"]]) == ("RolledBack", [20])
    (action,) = second["actions"]
    assert action == {"time": "2026-03-01T12:00:05Z", "action": "Promote", "by": "alice", "approves": "chat"}
    (decision,) = second["decisions"]
    assert decision["evidence"] == [{"metric": "all", "regression": "590:1"}]
    assert [entry["seq"] for entry in second["transitions"]] == [3, 4, 5, 6]
    json.dumps(whole)
