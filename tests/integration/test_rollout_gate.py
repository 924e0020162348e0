"""Who may act on a rollout: every way to promote without the right, on a real API server.

Each case is one request of one person.  All run twice: with stamped identities, and as before Kubernetes
1.36, when people type their own name.
"""

from typing import Any

import pytest

from tests.integration.gate_world import (
    AUTHOR,
    BOTH,
    DENIED,
    GITOPS,
    OFFICER,
    OPERATOR,
    Act,
    Answer,
    World,
    judged,
)

RUN = {"phase": "AwaitingApproval", "runId": "run-1", "wait": 1}
GATED = {**RUN, "approval": {"model": "fraud"}}
LACKS = "lacks verb approve on models/fraud, which promoting a run whose policy asks for approval needs; ask"


def service(w: World, rollout: dict[str, Any] = GATED) -> dict[str, Any]:
    """Return a stored service with a run; by default its policy asks for approval on the model fraud."""
    made = w.stored(w.thing("InferenceService"), AUTHOR)
    return w[OPERATOR].merge(made, {"status": {"rollout": rollout}}, "status").ok().body


def action(w: World, who: str, what: str = "Promote", **more: Any) -> dict[str, Any]:
    """Return the change that *who* asks for; without stamping they type their name and what it is."""
    typed = {} if w.stamps else {"by": who, **({"approves": "fraud"} if what == "Promote" else {})}
    return {"spec": {"rollout": {"action": what, "runId": "run-1", "wait": 1, **typed, **more}}}


def asks(w: World, who: str, what: str = "Promote", rollout: dict[str, Any] = GATED, **more: Any) -> Answer:
    return w[who].merge(service(w, rollout), action(w, who, what, **more))


def promoted(w: World) -> dict[str, Any]:
    """Return a service whose run somebody promoted who may."""
    return w[BOTH].merge(service(w), action(w, BOTH)).ok().body


def plainly(w: World, who: str, **fields: Any) -> Answer:
    """Let *who* promote a run that asks for no approval."""
    spec = {"rollout": {"action": "Promote", "runId": "run-1", **fields}}
    return w[who].merge(service(w, RUN), {"spec": spec})


PROMOTING: list[Any] = [
    pytest.param(
        lambda w: asks(w, AUTHOR), (DENIED, f"user author {LACKS}"), id="who may edit all may not promote"
    ),
    pytest.param(lambda w: asks(w, GITOPS), (DENIED, LACKS), id="nor may a GitOps controller"),
    pytest.param(
        lambda w: asks(w, AUTHOR, wait=7), (DENIED, LACKS), id="nor in advance, for a wait that is to come"
    ),
    pytest.param(lambda w: asks(w, BOTH), (200, ""), id="a holder of approve who may edit promotes"),
    pytest.param(lambda w: asks(w, OFFICER), (200, ""), id="so does one with the chart's role for approvers"),
    pytest.param(lambda w: asks(w, AUTHOR, "Abort"), (200, ""), id="who may edit aborts"),
    pytest.param(lambda w: asks(w, AUTHOR, "Pause"), (200, ""), id="and pauses"),
    pytest.param(lambda w: plainly(w, AUTHOR), (200, ""), id="and promotes where no approval is asked for"),
    pytest.param(
        lambda w: w[AUTHOR].merge(promoted(w), {"spec": {"rollout": {"wait": 2}}}),
        (DENIED, ""),
        id="nobody makes of an approval one for the next wait",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(promoted(w), {"spec": {"rollout": {"runId": "run-2"}}}),
        (DENIED, ""),
        id="nor one for another run",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(promoted(w), {"spec": {"rollout": None}}),
        (200, ""),
        id="it may be taken out",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(promoted(w), {"spec": {"scaling": {"minReplicas": 2}}}),
        (200, ""),
        id="and an edit beside it needs no right",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(service(w), {"spec": {"rolloutPolicyRef": {"name": "lax"}}}),
        (DENIED, "on models/fraud, which leaving a rollout policy that asks for approval needs; ask"),
        id="who may not promote does not take another policy",
    ),
    pytest.param(
        lambda w: w[BOTH].merge(service(w), {"spec": {"rolloutPolicyRef": {"name": "lax"}}}),
        (200, ""),
        id="who may promote does",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(service(w, RUN), {"spec": {"rolloutPolicyRef": {"name": "lax"}}}),
        (200, ""),
        id="and so does everybody where no approval is asked for",
    ),
]
PATCHING: list[Any] = [
    pytest.param({"spec": {"scaling": {"minReplicas": 2}}}, id="the number of pods"),
    pytest.param({"spec": {"model": {"version": "fraud-8"}}}, id="the version"),
    pytest.param({"spec": {"engine": {"name": "vLLM", "image": "example.com/x"}}}, id="the image"),
    pytest.param({"metadata": {"labels": {"a": "b"}}}, id="a label"),
    pytest.param({"metadata": {"annotations": {"a": "b"}}}, id="an annotation"),
    pytest.param({"metadata": {"finalizers": ["example.com/x"]}}, id="a finalizer"),
]


@pytest.mark.parametrize(("act", "wanted"), PROMOTING)
def test_where_a_policy_asks_for_approval_a_promote_needs_the_verb(
    world: World, act: Act, wanted: Any
) -> None:
    judged(act(world), wanted)


@pytest.mark.parametrize("change", PATCHING)
def test_an_approver_acts_on_a_run_and_changes_nothing_else(world: World, change: dict[str, Any]) -> None:
    words = "user officer lacks verb update on inferenceservices/"
    judged(world[OFFICER].merge(service(world), change), (DENIED, words))
    made = service(world)
    judged(world[AUTHOR].merge(made, change), (200, ""))
    world[AUTHOR].merge(made, {"metadata": {"finalizers": None}}).ok()


def test_the_stored_name_is_that_of_who_asked(world: World) -> None:
    given = promoted(world)["spec"]["rollout"]
    assert (given["by"], given["approves"]) == (BOTH, "fraud")
    aborted = asks(world, AUTHOR, "Abort").ok().spec["rollout"]
    assert (aborted["by"], "approves" in aborted) == (AUTHOR, False)
    plain = plainly(world, AUTHOR).ok().spec["rollout"]
    assert (plain.get("by", AUTHOR), "approves" in plain) == (AUTHOR, False)


def test_nobody_asks_in_anothers_name(world: World) -> None:
    answer = asks(world, AUTHOR, "Abort", by=OFFICER)
    if world.stamps:
        assert answer.ok().spec["rollout"]["by"] == AUTHOR
    else:
        judged(answer, (DENIED, "requester; set it to author"))


def test_nobody_writes_an_approval_where_none_is_asked_for_yet(world: World) -> None:
    """A policy may ask for one a moment later."""
    answers = [
        plainly(world, AUTHOR, by=AUTHOR, approves="fraud"),
        world[AUTHOR].create(
            world.thing(
                "InferenceService",
                {
                    "model": {"version": "fraud-7"},
                    "rollout": {"action": "Promote", "runId": "run-1", "by": AUTHOR, "approves": "fraud"},
                },
            )
        ),
    ]
    for answer in answers:
        if world.stamps:
            assert "approves" not in answer.ok().spec["rollout"]
        else:
            judged(answer, (DENIED, "user author lacks verb approve on models/fraud"))


def test_an_approval_ends_with_the_next_action(world: World) -> None:
    given = promoted(world)
    change = {"action": "Abort", **({} if world.stamps else {"by": AUTHOR})}
    after = world[AUTHOR].merge(given, {"spec": {"rollout": change}}).ok().body
    assert after["spec"]["rollout"]["by"] == AUTHOR
    again = {"action": "Promote", **({} if world.stamps else {"by": AUTHOR})}
    judged(world[AUTHOR].merge(after, {"spec": {"rollout": again}}), (DENIED, "lacks verb approve"))


def test_a_file_that_is_applied_again_changes_no_action(world: World) -> None:
    made = promoted(world)
    file = {**made, "spec": {"model": made["spec"]["model"]}}
    del file["status"]
    after = world[GITOPS].apply(file, force="true").ok().body
    assert after["spec"]["rollout"] == made["spec"]["rollout"]
    same = {"action": "Promote", "runId": "run-1", "wait": 1}
    after = world[AUTHOR].apply({**file, "spec": {**file["spec"], "rollout": same}}, force="true").ok().body
    assert after["spec"]["rollout"] == made["spec"]["rollout"]


def test_an_approval_is_not_written_over_without_its_name(world: World) -> None:
    made = promoted(world)
    bare = {key: value for key, value in made["spec"]["rollout"].items() if key not in ("by", "approves")}
    judged(world[AUTHOR].replace({**made, "spec": {**made["spec"], "rollout": bare}}), (DENIED, ""))
