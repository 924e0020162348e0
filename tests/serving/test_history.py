"""The history in status: every transition once, with its numbers and who asked, and nothing between."""

from typing import Any

from modelops.plan import Manifest
from modelops.rollouts.state import Phase
from tests.serving.cluster import Traffic
from tests.serving.situations import SERVICE, WORSE, policy
from tests.serving.test_story import Story, prepared, serving


def entries(told: Story) -> list[dict[str, Any]]:
    return list(told.cluster.get(*SERVICE)["status"].get("history") or ())


def types(told: Story) -> list[str]:
    return [entry["type"] for entry in entries(told)]


def act(told: Story, action: str, **more: Any) -> Story:
    wish = {"action": action, "runId": told.state.run_id, "wait": told.state.wait, **more}
    told.cluster.edit(*SERVICE, {"spec": {"rollout": None}})
    told.cluster.edit(*SERVICE, {"spec": {"rollout": wish}}).settle()
    return told


def test_a_run_is_told_step_by_step_with_the_numbers_of_its_end() -> None:
    told = prepared(serving(), "chat-2").want("chat-2").until(Phase.BAKING).until(Phase.STABLE)

    assert types(told) == [
        "Started", "Serving", "Started", "WeightChanged", "WeightChanged", "Promoted", "Switched", "Settled",
    ]  # fmt: skip
    weights = [entry["weight"] for entry in entries(told) if entry["type"] == "WeightChanged"]
    assert weights == [20, 50]
    promoted = next(entry for entry in entries(told) if entry["type"] == "Promoted")
    whole, errors, *_ = promoted["evidence"]
    assert (whole["metric"], whole["promoteAt"], errors["metric"]) == ("all", "20:1", "errors")
    assert (errors["canary"], errors["stable"], errors["n"]["canary"] > 0) == ("0.2%", "0.2%", True)
    assert (promoted["from"], promoted["to"], promoted["version"]) == ("Progressing", "Promoting", "chat-2")


def test_a_rollback_keeps_the_numbers_that_decided() -> None:
    told = prepared(serving(), "chat-2")
    told.cluster.traffic = Traffic(canary=WORSE)
    told.want("chat-2").until(Phase.ROLLED_BACK).run(3)

    (back,) = [entry for entry in entries(told) if entry["type"] == "RolledBack"]
    assert back["reason"] == told.state.rejected[0].reason
    assert [row["metric"] for row in back["evidence"]][:2] == ["all", "errors"]
    assert types(told)[-1] == "Withdrawn"


def test_who_asked_is_told_and_what_they_may_approve() -> None:
    told = prepared(serving(), "chat-2")
    asking = {**policy()["spec"], "approval": {"beforeStart": True}}
    told.cluster.put({**policy(), "spec": asking}).settle()
    told.want("chat-2").until(Phase.AWAITING_APPROVAL).run(3)
    shown: Manifest = told.cluster.get(*SERVICE)["status"]["rollout"]
    assert shown["approval"] == {"model": "chat"}

    act(told, "Promote", by="mallory").run(3)
    assert told.state.phase is Phase.AWAITING_APPROVAL
    act(told, "Promote", by="alice", approves="chat").until(Phase.PROGRESSING)
    act(told, "Abort", by="bob").until(Phase.ROLLED_BACK)

    people = [
        (entry["actor"]["name"], entry["action"], entry.get("approves"))
        for entry in entries(told)
        if "actor" in entry
    ]
    assert people == [("alice", "Promote", "chat"), ("bob", "Abort", None)]
    assert told.cluster.get(*SERVICE)["status"]["rollout"]["acted"]["by"] == "bob"


def test_a_run_that_waits_tells_nothing_and_writes_no_entry() -> None:
    told = prepared(serving(), "chat-2")
    canary = {**policy()["spec"]["canary"], "stepSettings": [{"weight": 20, "pause": "Manual"}]}
    told.cluster.put({**policy(), "spec": {**policy()["spec"], "canary": canary}}).settle()
    told.want("chat-2").until(Phase.PAUSED)
    before, events = entries(told), len(told.cluster.told.events)

    told.run(300)
    told.cluster.again().settle()
    told.run(60)

    assert entries(told) == before
    assert len(told.cluster.told.events) == events


def test_the_history_stays_bounded_over_many_runs() -> None:
    told = prepared(serving(), "chat-2")
    for _ in range(6):
        told.want("chat-2").until(Phase.PROGRESSING)
        told.want("chat-1").until(Phase.STABLE)

    assert len(entries(told)) == 20
    assert told.cluster.get(*SERVICE)["status"]["audit"]["seq"] > 20
