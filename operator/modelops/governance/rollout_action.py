"""Who gives an action on a rollout: stamped and checked by the API server, as approvals are.

An action goes with the right to edit the service.  Where the rollout policy asks for approval, by the word
that the operator left in status, a Promote needs the verb approve on the model as well.
"""

from pydantic.alias_generators import to_camel

from modelops.api.names import GROUP
from modelops.api.service import ServiceSpec
from modelops.governance.admission import check, lacks, rules, stamping, validating
from modelops.plan import Manifest

_ASKS = (
    "has(object.spec.rollout) && "
    "(request.operation == 'CREATE' || object.spec.?rollout != oldObject.spec.?rollout)"
)
"""Whether the request asks something new of a run; what stays as it was needs no right."""
_MODEL = "request.operation == 'CREATE' ? '' : oldObject.?status.?rollout.?approval.?model.orValue('')"
"""Model that the policy of the service asks an approval for, by the operator's word; empty: it asks none."""
_APPROVES = f"{_ASKS} && object.spec.rollout.action == 'Promote' && ({_MODEL}) != ''"
_STAMP_ACTION: Manifest = {
    # As a whole, since what an earlier request left in these two fields must go as well.
    "patchType": "JSONPatch",
    "jsonPatch": {
        "expression": "[JSONPatch{op: 'add', path: '/spec/rollout/by', value: request.userInfo.username}] + "
        "(variables.approves ? "
        "[JSONPatch{op: 'add', path: '/spec/rollout/approves', value: variables.model}] : "
        "(has(object.spec.rollout.approves) ? "
        "[JSONPatch{op: 'remove', path: '/spec/rollout/approves'}] : []))"
    },
}
_ACTION_VARIABLES = [
    {"name": "asks", "expression": _ASKS},
    {"name": "model", "expression": _MODEL},
    {"name": "approves", "expression": _APPROVES},
]
_REST = " && ".join(
    f"object.spec.?{name} == oldObject.spec.?{name}"
    for name in sorted(to_camel(field) for field in ServiceSpec.model_fields)
    if name != "rollout"
) + "".join(
    f" && object.metadata.?{name} == oldObject.metadata.?{name}"
    for name in ("annotations", "finalizers", "labels", "ownerReferences")
)
"""Whether nothing but the action differs."""
_MAY_UPDATE = (
    f"authorizer.group('{GROUP}').resource('inferenceservices').namespace(request.namespace)"
    ".name(object.metadata.name).check('update').allowed()"
)

ACTION = "modelops-rollout-action"
"""The policy that asks who gives an action on a run."""


STAMP: tuple[Manifest, ...] = stamping(
    "modelops-stamp-action",
    "inferenceservices",
    _STAMP_ACTION,
    operations=["CREATE", "UPDATE"],
    matchConditions=[{"name": "asks", "expression": _ASKS}],
    variables=_ACTION_VARIABLES,
)

GUARD: tuple[Manifest, ...] = validating(
    ACTION,
    rules(["CREATE", "UPDATE"], ["inferenceservices"]),
    [
        {
            "expression": "!variables.asks || !has(object.spec.rollout.by) || "
            "object.spec.rollout.by == request.userInfo.username",
            "messageExpression": "'spec.rollout.by of an InferenceService must be the authenticated "
            "requester; set it to ' + request.userInfo.username",
            "reason": "Forbidden",
        },
        {
            "expression": "!variables.approves || " + check("models", "'approve'", "variables.model"),
            "messageExpression": lacks(
                "approve", "variables.model", "promoting a run whose policy asks for approval"
            ),
            "reason": "Forbidden",
        },
        {
            "expression": "!variables.approves || (has(object.spec.rollout.by) && "
            "object.spec.rollout.?approves.orValue('') == variables.model)",
            "messageExpression": "'a Promote that is an approval says who gives it, and on which model; "
            "set spec.rollout.by to ' + request.userInfo.username + "
            "' and spec.rollout.approves to ' + variables.model",
            "reason": "Forbidden",
        },
        {
            # What an earlier Promote left there says nothing in another action.
            "expression": "!variables.asks || object.spec.rollout.action != 'Promote' || "
            "!has(object.spec.rollout.approves) || "
            + check("models", "'approve'", "object.spec.rollout.approves"),
            "messageExpression": lacks("approve", "object.spec.rollout.approves", "spec.rollout.approves"),
            "reason": "Forbidden",
        },
        {
            # Else who may not promote would take a policy that asks nobody.
            "expression": "variables.model == '' || "
            "object.spec.?rolloutPolicyRef == oldObject.spec.?rolloutPolicyRef || "
            + check("models", "'approve'", "variables.model"),
            "messageExpression": lacks(
                "approve", "variables.model", "leaving a rollout policy that asks for approval"
            ),
            "reason": "Forbidden",
        },
        {
            # So that an approver can be given patch, which an action needs, and nothing else with it.
            "expression": f"request.operation == 'CREATE' || ({_REST}) || {_MAY_UPDATE}",
            "messageExpression": "'user ' + request.userInfo.username + ' lacks verb update on "
            "inferenceservices/' + object.metadata.name + ', which changing more than spec.rollout "
            "needs; ask an administrator for it'",
            "reason": "Forbidden",
        },
    ],
    variables=_ACTION_VARIABLES,
    auditAnnotations=[
        {
            "key": "action",
            "valueExpression": "variables.asks ? object.spec.rollout.action + ' of run ' + "
            "object.spec.rollout.runId + ' of ' + object.metadata.name + ' by ' + "
            "request.userInfo.username : ''",
        }
    ],
    actions=["Deny", "Audit"],
)
