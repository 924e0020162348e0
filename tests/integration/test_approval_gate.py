"""The approval gate as the chart installs it: who may approve, and every way around it, on a real API server.

Each case is one request of one person.  All run twice: with stamped identities, and as before Kubernetes
1.36, when people type their own name.
"""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from modelops.controllers.gate import forged
from modelops.governance import policies
from tests.integration.gate_world import (
    AGENT,
    APPROVAL,
    APPROVER,
    AUTHOR,
    BOTH,
    CLERK,
    CLUSTER_ADMIN,
    COLLECTOR,
    DENIED,
    GITOPS,
    GOVERNED,
    GOVERNOR,
    IMMUTABLE,
    OFFICER,
    OPERATOR,
    OPERATOR_NAMESPACE,
    PLURALS,
    SPECS,
    WEAK,
    Act,
    Answer,
    Person,
    World,
    cluster_thing,
    from_namespace,
    install,
    judged,
    model_node,
    path_of,
    until,
)

# --- attempts ----------------------------------------------------------------------------------------

OWNER = {
    "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": str(uuid.uuid4())}]
}


def _impersonated(w: World) -> Answer:
    return w.impersonating(APPROVER).create(w.approval(APPROVER))


APPROVING: list[Any] = [
    pytest.param(
        lambda w: w[AUTHOR].create(w.approval(AUTHOR)),
        (DENIED, "user author lacks verb approve on models/fraud"),
        id="an author who holds every verb of the product's group may not approve",
    ),
    pytest.param(
        lambda w: w[AUTHOR].create(w.approval(AUTHOR, decision="Reject")),
        (DENIED, "lacks verb approve"),
        id="nor reject",
    ),
    pytest.param(
        lambda w: w[AUTHOR].create(w.approval(AUTHOR, decision="Revoke")),
        (DENIED, "lacks verb revoke"),
        id="nor revoke",
    ),
    pytest.param(
        lambda w: w[AUTHOR].create(w.approval(APPROVER)), (DENIED, ""), id="nor approve in an approver's name"
    ),
    pytest.param(
        lambda w: w[AUTHOR].apply(w.approval(APPROVER), force="true"),
        (DENIED, ""),
        id="nor by server-side apply with force",
    ),
    pytest.param(
        lambda w: w[GITOPS].create(w.approval(GITOPS)),
        (DENIED, "lacks verb approve"),
        id="nor does the account of a GitOps controller approve without the verb",
    ),
    pytest.param(
        lambda w: w[OPERATOR].create(from_namespace(w.approval(OPERATOR), OPERATOR_NAMESPACE)),
        (DENIED, "lacks verb approve"),
        id="nor the operator itself",
    ),
    pytest.param(
        lambda w: w[APPROVER].create(w.approval(APPROVER)), (201, ""), id="an approver approves the own model"
    ),
    pytest.param(
        lambda w: w[APPROVER].create(w.approval(APPROVER, decision="Revoke")), (201, ""), id="and revokes"
    ),
    pytest.param(
        lambda w: w[CLERK].create(w.approval(CLERK)), (201, ""), id="a holder of approve alone approves"
    ),
    pytest.param(
        lambda w: w[CLERK].create(w.approval(CLERK, decision="Revoke")),
        (DENIED, "user clerk lacks verb revoke on models/fraud"),
        id="a holder of approve alone may not revoke",
    ),
    pytest.param(
        lambda w: w[APPROVER].create(w.approval(APPROVER, modelRef="risk")),
        (DENIED, "user approver lacks verb approve on models/risk"),
        id="an approver of one model may not approve another",
    ),
    pytest.param(
        lambda w: w[BOTH].create(from_namespace(w.approval(BOTH), w.other)),
        (DENIED, "lacks verb approve"),
        id="nor the model of that name in another namespace",
    ),
    pytest.param(
        lambda w: w[BOTH].create(w.approval(BOTH)),
        (201, ""),
        id="author and approver in one: taken, since four eyes are the operator's to ask for",
    ),
    pytest.param(
        lambda w: w[OFFICER].create(w.approval(OFFICER, modelRef="anything")),
        (201, ""),
        id="the chart's role for approvers approves every model of the namespace",
    ),
    pytest.param(_impersonated, (201, ""), id="an administrator may act as an approver"),
    pytest.param(
        lambda w: w[APPROVER].apply(w.approval(APPROVER)),
        (201, ""),
        id="server-side apply works with create and patch",
    ),
    pytest.param(
        lambda w: w[CLERK].apply(w.approval(CLERK)),
        (DENIED, "cannot patch"),
        id="server-side apply needs patch",
    ),
]

THE_RECORD: list[Any] = [
    pytest.param(
        lambda w: w[APPROVER].merge(w.stored_approval(), {"spec": {"environments": ["dev"]}}),
        (IMMUTABLE, "a ModelApproval is immutable"),
        id="an approver may not edit the own approval",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(w.stored_approval(), {"spec": {"approver": {"username": AUTHOR}}}),
        (IMMUTABLE, "a ModelApproval is immutable"),
        id="nobody may change who approved",
    ),
    pytest.param(
        lambda w: w[AUTHOR].apply(
            {**w.stored_approval(), "spec": {**APPROVAL, "approver": {"username": AUTHOR}}}, force="true"
        ),
        (IMMUTABLE, ""),
        id="nor by server-side apply with force",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(w.stored_approval(), {"spec": {"approver": None}}),
        (IMMUTABLE, ""),
        id="nor take the name away",
    ),
    pytest.param(
        lambda w: w[APPROVER].create(w.thing("ModelApproval", {**APPROVAL, "environments": []})),
        (422, "environments"),
        id="an approval for no environment is refused",
    ),
    pytest.param(
        lambda w: w[APPROVER].create(
            w.thing("ModelApproval", {k: v for k, v in APPROVAL.items() if k != "environments"})
        ),
        (422, "environments"),
        id="an approval that leaves its environments out is refused",
    ),
    pytest.param(
        lambda w: w[APPROVER].create(
            w.thing("ModelApproval", {**APPROVAL, "approver": {"username": APPROVER}}, **OWNER)
        ),
        (DENIED, "an approval has no owner"),
        id="an approval may not be made with an owner that would take it along",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(w.stored_approval(), {"metadata": OWNER}),
        (DENIED, "an approval has no owner"),
        id="nor be given one afterwards",
    ),
    pytest.param(
        lambda w: w[AUTHOR].delete(w.stored_approval()),
        (DENIED, "approval records may not be deleted"),
        id="an author may not delete a record",
    ),
    pytest.param(
        lambda w: w[COLLECTOR].delete(w.stored_approval()),
        (DENIED, "approval records may not be deleted"),
        id="nor the garbage collector on somebody's behalf",
    ),
    pytest.param(
        lambda w: w[OPERATOR].delete(w.stored_approval()), (DENIED, "cannot delete"), id="nor the operator"
    ),
    pytest.param(
        lambda w: w[GOVERNOR].delete(w.stored_approval()), (200, ""), id="a holder of purge may delete it"
    ),
]

VERSIONS: list[Any] = [
    pytest.param(lambda w: w[AUTHOR].create(w.version()), (201, ""), id="an author registers a version"),
    pytest.param(
        lambda w: w[AUTHOR].merge(w.stored(w.version(), AUTHOR), {"spec": {"createdBy": BOTH}}),
        (IMMUTABLE, "createdBy of a ModelVersion is immutable"),
        id="an author may not hand the authorship to somebody else",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(w.stored(w.version(), AUTHOR), {"spec": {"createdBy": None}}),
        (IMMUTABLE, "createdBy of a ModelVersion is immutable"),
        id="nor take it away",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(
            w.stored(w.version(), AUTHOR), {"spec": {"source": {"huggingFace": {"repo": "acme/other"}}}}
        ),
        (IMMUTABLE, "source of a ModelVersion is immutable"),
        id="nor change the source",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(w.stored(w.version(), AUTHOR), {"spec": {"lifecycle": "Deprecated"}}),
        (200, ""),
        id="an author deprecates a version",
    ),
    pytest.param(
        lambda w: w[AUTHOR].delete(w.stored(w.version(), AUTHOR)), (200, ""), id="and deletes an unused one"
    ),
    pytest.param(
        lambda w: w[AUTHOR].delete(w.used_version()),
        (DENIED, "is used by 2 services; move them to another version first"),
        id="a version in use may not be deleted",
    ),
    pytest.param(
        lambda w: w[AUTHOR].delete_all(w.used_version()),
        (DENIED, "is used by 2 services"),
        id="nor with the whole collection",
    ),
    pytest.param(
        lambda w: w[COLLECTOR].delete(w.used_version()),
        (DENIED, "is used by 2 services"),
        id="nor by the garbage collector, after its owner went",
    ),
]

GOVERNANCE: list[Any] = [
    pytest.param(
        lambda w: w[AUTHOR].merge(
            w.stored(w.thing("Model", GOVERNED), AUTHOR), {"spec": {"governance": WEAK}}
        ),
        (DENIED, "user author lacks verb govern on models/model-"),
        id="an author may not weaken the governance",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(
            w.stored(w.thing("Model", GOVERNED), AUTHOR), {"spec": {"governance": None}}
        ),
        (DENIED, "lacks verb govern"),
        id="nor remove it",
    ),
    pytest.param(
        lambda w: w[AUTHOR].delete(w.stored(w.thing("Model", GOVERNED), AUTHOR)),
        (DENIED, "which deleting a Model with spec.governance needs"),
        id="nor delete the Model, to make a weaker one",
    ),
    pytest.param(
        lambda w: w[AUTHOR].delete_all(w.stored(w.thing("Model", GOVERNED), AUTHOR)),
        (DENIED, "lacks verb govern"),
        id="nor with the whole collection",
    ),
    pytest.param(
        lambda w: w[COLLECTOR].delete(w.stored(w.thing("Model", GOVERNED), AUTHOR)),
        (DENIED, "lacks verb govern"),
        id="nor let the garbage collector delete it",
    ),
    pytest.param(
        lambda w: w[AUTHOR].merge(
            w.stored(w.thing("Model", GOVERNED), AUTHOR), {"spec": {"owner": {"team": "fraud"}}}
        ),
        (200, ""),
        id="an author changes the rest of the Model",
    ),
    pytest.param(
        lambda w: w[AUTHOR].delete(w.stored(w.thing("Model"), AUTHOR)),
        (200, ""),
        id="and deletes a Model without governance",
    ),
    pytest.param(
        lambda w: w[GOVERNOR].merge(
            w.stored(w.thing("Model", GOVERNED), AUTHOR), {"spec": {"governance": WEAK}}
        ),
        (200, ""),
        id="a holder of govern changes the governance",
    ),
    pytest.param(
        lambda w: w[GOVERNOR].delete(w.stored(w.thing("Model", GOVERNED), AUTHOR)),
        (200, ""),
        id="and deletes the Model",
    ),
]


@pytest.mark.parametrize(("act", "wanted"), APPROVING)
def test_only_who_was_given_the_verb_for_the_model_decides(world: World, act: Act, wanted: Any) -> None:
    judged(act(world), wanted)


@pytest.mark.parametrize(("act", "wanted"), THE_RECORD)
def test_a_decision_once_made_stays_as_it_is(world: World, act: Act, wanted: Any) -> None:
    judged(act(world), wanted)


@pytest.mark.parametrize(("act", "wanted"), VERSIONS)
def test_a_version_keeps_its_author_and_stays_while_it_is_used(world: World, act: Act, wanted: Any) -> None:
    judged(act(world), wanted)


@pytest.mark.parametrize(("act", "wanted"), GOVERNANCE)
def test_who_is_governed_does_not_weaken_the_governance(world: World, act: Act, wanted: Any) -> None:
    judged(act(world), wanted)


# --- identities: what differs with and without stamping ----------------------------------------------

IDENTITIES: list[Any] = [
    pytest.param(APPROVER, lambda w: w.approval(APPROVER), APPROVER, "", id="an approver names the own name"),
    pytest.param(
        APPROVER,
        lambda w: w.approval(),
        APPROVER,
        "set spec.approver.username to approver",
        id="an approver names nobody",
    ),
    pytest.param(
        APPROVER,
        lambda w: w.approval(OFFICER),
        APPROVER,
        "set spec.approver.username to approver",
        id="an approver names another approver",
    ),
    pytest.param(
        APPROVER,
        lambda w: w.approval(APPROVER, uid="forged"),
        APPROVER,
        "spec.approver.uid must be that of the authenticated requester",
        id="an approver names another's uid",
    ),
    pytest.param(AUTHOR, lambda w: w.version(AUTHOR), AUTHOR, "", id="an author names the own name"),
    pytest.param(
        AUTHOR,
        lambda w: w.version(""),
        AUTHOR,
        "set it to author",
        id="an author names nobody as the creator",
    ),
    pytest.param(
        AUTHOR, lambda w: w.version(BOTH), AUTHOR, "set it to author", id="an author names another creator"
    ),
]


@pytest.mark.parametrize(("who", "made", "stored", "refusal"), IDENTITIES)
def test_the_stored_identity_is_the_requesters(
    world: World, who: str, made: Callable[[World], dict[str, Any]], stored: str, refusal: str
) -> None:
    answer = world[who].create(made(world))
    if refusal and not world.stamps:
        judged(answer, (DENIED, refusal))
        return
    spec = answer.ok().spec
    recorded = spec["approver"] if "approver" in spec else {"username": spec["createdBy"]}
    assert (recorded["username"], recorded.get("uid", "")) == (stored, "")


@pytest.mark.parametrize("made", ["approval", "version"])
def test_applying_a_file_again_changes_nothing(world: World, made: str) -> None:
    obj, who = (world.approval(), APPROVER) if made == "approval" else (world.version(by=""), AUTHOR)
    if not world.stamps:
        obj = world.approval(APPROVER) if made == "approval" else world.version(AUTHOR)
    first = world[who].apply(obj).ok()
    again = world[who].apply(obj).ok()
    assert again.body["metadata"]["resourceVersion"] == first.body["metadata"]["resourceVersion"]
    assert again.spec == first.spec


def test_applying_somebody_elses_approval_leaves_it_theirs(world: World) -> None:
    approval = world.stored_approval()
    again = world[AUTHOR].apply({**approval, "spec": {**APPROVAL, "approver": {"username": APPROVER}}})
    assert again.ok().spec == approval["spec"]


def test_deleting_all_records_at_once_deletes_none(world: World) -> None:
    approval = world.stored_approval()
    judged(world[AUTHOR].delete_all(approval), (DENIED, "approval records may not be deleted"))
    assert world[CLUSTER_ADMIN].read(approval).ok().body["metadata"].get("deletionTimestamp") is None


# --- status ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PLURALS)
def test_only_the_operator_writes_the_status_of(world: World, kind: str) -> None:
    me = _own_name(world[CLUSTER_ADMIN])
    identity = {"ModelApproval": {"approver": {"username": me}}, "ModelVersion": {"createdBy": me}}
    spec = {**SPECS[kind], **identity.get(kind, {})}
    status = {"observedGeneration": 1}
    thing = world[CLUSTER_ADMIN].create({**world.thing(kind, spec), "status": status}).ok().body
    assert "status" not in thing, "a status must not come in with the object"
    words = f"status of {PLURALS[kind]} is written by the ModelOps operator only"
    judged(world[AUTHOR].merge(thing, {"status": status}, "status"), (DENIED, words))
    judged(world[AUTHOR].replace({**thing, "status": status}, "status"), (DENIED, words))
    applied = {**thing, "spec": None, "status": status}
    del applied["spec"]
    judged(world[AUTHOR].apply(applied, "status", force="true"), (DENIED, words))
    judged(world[APPROVER].merge(thing, {"status": status}, "status"), (DENIED, ""))
    assert world[OPERATOR].apply(applied, "status").ok().body["status"] == status


def _own_name(person: Person) -> str:
    api = "authentication.k8s.io/v1"
    asked = person.ask(
        "POST", f"/apis/{api}/selfsubjectreviews", {"apiVersion": api, "kind": "SelfSubjectReview"}
    )
    return str(asked.ok().body["status"]["userInfo"]["username"])


@pytest.fixture(params=["modelops-delivery"])
def tokens(world: World, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Tokens of a node agent's account: of pods on two nodes, and of no pod."""
    account: str = request.param
    admin = world[CLUSTER_ADMIN]
    made = []
    found = {}
    for node in ("gate-n1", "gate-n2"):
        made.append(cluster_thing("Node", node))
        pod = cluster_thing("Pod", f"agent-{node}")
        pod["metadata"]["namespace"] = OPERATOR_NAMESPACE
        pod["spec"] = {
            "nodeName": node,
            "serviceAccountName": account,
            "containers": [{"name": "agent", "image": "modelops"}],
            "tolerations": [{"operator": "Exists"}],
        }
        made.append(pod)
    for obj in made:
        stored = admin.create(obj).ok().body
        if obj["kind"] == "Pod":
            name = obj["metadata"]["name"]
            bound = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": stored["metadata"]["uid"]}
            found[obj["spec"]["nodeName"]] = _token(admin, account, bound)
    found["no pod"] = _token(admin, account, None)
    yield found
    for obj in reversed(made):
        admin.ask("DELETE", path_of(obj, gracePeriodSeconds="0")).ok()
    for node in ("gate-n1", "gate-n2"):
        admin.delete(model_node(node))


def _token(admin: Person, account: str, bound: dict[str, str] | None) -> str:
    path = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/serviceaccounts/{account}/token"
    spec = {"expirationSeconds": 600, **({"boundObjectRef": bound} if bound else {})}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    return str(admin.ask("POST", path, body).ok().body["status"]["token"])


@pytest.mark.parametrize("tokens", ["modelops-delivery", "modelops-nodes"], indirect=True)
def test_an_agent_writes_the_model_node_of_its_own_node_only(world: World, tokens: dict[str, str]) -> None:
    mine, other = model_node("gate-n1"), model_node("gate-n2")
    agent = world.with_token(tokens["gate-n1"])
    status = {"observedGeneration": 1}
    own = "a node agent writes the ModelNode of its own node only"

    judged(agent.apply(other), (DENIED, own))
    judged(agent.apply(mine), (201, ""))
    judged(agent.apply({**mine, "status": status}, "status"), (200, ""))
    world.with_token(tokens["gate-n2"]).apply(other).ok()
    judged(agent.apply({**other, "status": status}, "status"), (DENIED, own))
    judged(agent.merge(other, {"metadata": {"labels": {"a": "b"}}}), (DENIED, own))
    nobody = world.with_token(tokens["no pod"])
    judged(nobody.apply({**mine, "status": {"observedGeneration": 2}}, "status"), (DENIED, own))
    author = world[AUTHOR].merge(mine, {"status": {"observedGeneration": 2}}, "status")
    judged(author, (DENIED, "ModelNodes are written by the node agents only"))
    judged(world[OPERATOR].merge(mine, {"status": {}}, "status"), (DENIED, ""))


@pytest.mark.parametrize("tokens", ["modelops-nodes"], indirect=True)
def test_the_agent_that_reads_gpus_reads_nothing_else(world: World, tokens: dict[str, str]) -> None:
    agent = world.with_token(tokens["gate-n1"])
    judged(agent.ask("GET", "/api/v1/pods"), (DENIED, "cannot list"))
    judged(agent.ask("GET", "/api/v1/secrets"), (DENIED, "cannot list"))
    judged(agent.ask("GET", "/apis/modelops.dev/v1alpha1/modelversions"), (DENIED, "cannot list"))


def test_an_agent_may_read_what_it_serves_and_write_nothing_else(
    world: World, tokens: dict[str, str]
) -> None:
    agent = world.with_token(tokens["gate-n1"])
    version = world.stored(world.version(), AUTHOR)
    listed = f"/apis/modelops.dev/v1alpha1/namespaces/{world.namespace}/modelversions"
    judged(agent.ask("GET", listed), (200, ""))
    judged(agent.ask("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dgate-n1"), (200, ""))
    judged(agent.ask("GET", "/api/v1/secrets"), (DENIED, "cannot list"))
    judged(agent.merge(version, {"status": {"phase": "Ready"}}, "status"), (DENIED, ""))
    judged(agent.create(world.approval(AGENT)), (DENIED, "cannot create"))


# --- the gate itself ---------------------------------------------------------------------------------


def test_what_the_server_stores_is_what_was_shipped(world: World) -> None:
    for wanted in policies.required(stamping=world.stamps):
        found = world[CLUSTER_ADMIN].read(wanted).ok().body
        assert policies.spec_digest(found) == policies.spec_digest(wanted), found["spec"]
        readable = world[OPERATOR].read(wanted)
        assert readable.code == 200, readable.body


def test_the_server_finds_no_fault_in_the_types_of_any_expression(world: World) -> None:
    for wanted in policies.required(stamping=False):
        if wanted["kind"] != "ValidatingAdmissionPolicy":
            continue
        found: dict[str, Any] = {}

        def is_checked(found: dict[str, Any] = found, wanted: dict[str, Any] = wanted) -> bool:
            found.update(world[CLUSTER_ADMIN].read(wanted).ok().body)
            return bool(found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"])

        until(f"type check of {wanted['metadata']['name']}", is_checked)
        assert not found["status"]["typeChecking"].get("expressionWarnings"), found["status"]


def test_a_forged_approval_is_denied_by_the_policys_name(world: World) -> None:
    answer = world[OPERATOR].create(forged(OPERATOR_NAMESPACE), dryRun="All")
    judged(answer, (DENIED, f"ValidatingAdmissionPolicy '{policies.APPROVAL}' with binding"))


def test_a_namespace_with_records_and_versions_in_use_can_be_deleted(world: World) -> None:
    world.stored_approval()
    version, model = world.used_version(), world.stored(world.thing("Model", GOVERNED), AUTHOR)
    place = cluster_thing("Namespace", world.namespace)
    admin = world[CLUSTER_ADMIN]
    admin.delete(place).ok()
    until("the namespace gone", lambda: admin.read(place).code == 404, 60)
    assert [admin.read(obj).code for obj in (version, model)] == [404, 404]


def test_without_its_binding_the_policy_denies_nothing(world: World, helm: Callable[..., str]) -> None:
    """This is what the operator's self-test is there to notice."""
    binding = next(one for one in policies.GUARDS if one["kind"].endswith("Binding"))
    world[CLUSTER_ADMIN].delete(binding).ok()
    attempt = forged(OPERATOR_NAMESPACE)

    def is_accepted() -> bool:
        return world[OPERATOR].create(attempt, dryRun="All").code == 201

    until("the policy out of force", is_accepted)
    install(helm, stamping=world.stamps)
    until("the policy in force again", lambda: not is_accepted())


def test_the_gates_key_outlives_an_upgrade(world: World, helm: Callable[..., str]) -> None:
    secret = cluster_thing("Secret", "modelops-gate")
    secret["metadata"]["namespace"] = OPERATOR_NAMESPACE
    before = world[CLUSTER_ADMIN].read(secret).ok().body["data"]
    install(helm, stamping=world.stamps)
    assert world[CLUSTER_ADMIN].read(secret).ok().body["data"] == before
