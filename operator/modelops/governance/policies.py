"""The approval gate as admission policies: data for the chart, and what the self-test compares with.

The API server enforces them by itself, so the gate neither opens nor closes with the operator.  Every field
that the server would default stands here, so that a stored policy can be compared as it is.

``python -m modelops.governance.policies --chart DIR`` writes them as chart templates.
"""

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from modelops.artifacts.canonical import canonical
from modelops.governance import rollout_action
from modelops.governance.admission import check, fields, lacks, rules, stamping, validating
from modelops.plan import Manifest

NODE_CLAIM = "authentication.kubernetes.io/node-name"
"""What the API server adds to the identity of a pod's own token.  Source: Kubernetes 1.30, KEP-4193."""
WITH_ITS_NAMESPACE = (
    "request.userInfo.username == 'system:serviceaccount:kube-system:namespace-controller' || "
    "has(namespaceObject.metadata.deletionTimestamp)"
)
"""Deleted because the namespace goes: nobody could keep the object.

The time of deletion is asked as well as the name, since not every controller manager uses accounts of its
own.  The garbage collector is no exception: an owner reference is written by whoever may edit the object.
"""


APPROVAL = "modelops-approval"
"""The policy whose name must appear when the self-test's forged approval is denied."""

STAMPS: tuple[Manifest, ...] = (
    *stamping(
        "modelops-stamp-approver",
        "modelapprovals",
        fields(
            "Object{spec: Object.spec{approver: Object.spec.approver{username: request.userInfo.username, "
            "uid: request.userInfo.?uid.orValue('')}}}"
        ),
    ),
    *stamping(
        "modelops-stamp-creator",
        "modelversions",
        fields("Object{spec: Object.spec{createdBy: request.userInfo.username}}"),
    ),
    *rollout_action.STAMP,
)
"""Written by the API server from 1.36 on; before, people type their own name and it is checked."""

GUARDS: tuple[Manifest, ...] = (
    *validating(
        APPROVAL,
        rules(["CREATE", "UPDATE"], ["modelapprovals"]),
        [
            {
                "expression": "has(object.spec.approver) && object.spec.approver.username == "
                "(request.operation == 'CREATE' ? request.userInfo.username : "
                "oldObject.spec.approver.username)",
                "messageExpression": "'spec.approver of a ModelApproval must be the authenticated requester; "
                "set spec.approver.username to ' + request.userInfo.username",
                "reason": "Forbidden",
            },
            {
                # Where the server stamps, this is its own value; certificates give no uid.
                "expression": "request.operation != 'CREATE' || object.spec.?approver.?uid.orValue('') in "
                "['', request.userInfo.?uid.orValue('')]",
                "message": "spec.approver.uid must be that of the authenticated requester; leave it out",
                "reason": "Forbidden",
            },
            {
                "expression": "request.operation != 'CREATE' || "
                + check("models", "variables.verb", "object.spec.modelRef"),
                "messageExpression": lacks("' + variables.verb + '", "object.spec.modelRef"),
                "reason": "Forbidden",
            },
            {
                "expression": "!has(object.metadata.ownerReferences) || "
                "object.metadata.ownerReferences.size() == 0",
                "message": "an approval has no owner, since garbage collection would delete the record; "
                "remove ownerReferences",
                "reason": "Forbidden",
            },
            {
                "expression": "has(object.spec.environments) && object.spec.environments.size() > 0",
                "message": "an approval names the environments that it is for, at least one; "
                "set spec.environments",
                "reason": "Forbidden",
            },
        ],
        variables=[{"name": "verb", "expression": "object.spec.decision == 'Revoke' ? 'revoke' : 'approve'"}],
        auditAnnotations=[
            {
                "key": "decision",
                "valueExpression": "object.spec.decision + ' ' + object.spec.modelRef + '/' + "
                "object.spec.versionRef + ' ' + object.spec.artifactDigest + ' by ' + "
                "request.userInfo.username",
            }
        ],
        actions=["Deny", "Audit"],
    ),
    *validating(
        "modelops-approval-delete",
        rules(["DELETE"], ["modelapprovals"]),
        [
            {
                "expression": f"{WITH_ITS_NAMESPACE} || "
                + check("modelapprovals", "'purge'", "oldObject.metadata.name"),
                "message": "approval records may not be deleted; create one with decision: Revoke instead",
                "reason": "Forbidden",
            }
        ],
        actions=["Deny", "Audit"],
    ),
    *validating(
        "modelops-creator",
        rules(["CREATE"], ["modelversions"]),
        [
            {
                # A version without a creator would have no author, and anybody could approve it.
                "expression": "has(object.spec.createdBy) && "
                "object.spec.createdBy == request.userInfo.username",
                "messageExpression": "'spec.createdBy of a ModelVersion must be the authenticated requester; "
                "set it to ' + request.userInfo.username",
                "reason": "Forbidden",
            }
        ],
    ),
    *validating(
        "modelops-governance",
        rules(["UPDATE"], ["models"]),
        [
            {
                "expression": "object.spec.?governance == oldObject.spec.?governance || "
                + check("models", "'govern'", "object.metadata.name"),
                "messageExpression": lacks("govern", "object.metadata.name", "changing spec.governance"),
                "reason": "Forbidden",
            }
        ],
        actions=["Deny", "Audit"],
    ),
    *validating(
        # Else who may not change the governance would delete the Model and make another.
        "modelops-governance-delete",
        rules(["DELETE"], ["models"]),
        [
            {
                "expression": f"!has(oldObject.spec.governance) || {WITH_ITS_NAMESPACE} || "
                + check("models", "'govern'", "oldObject.metadata.name"),
                "messageExpression": lacks(
                    "govern", "oldObject.metadata.name", "deleting a Model with spec.governance"
                ),
                "reason": "Forbidden",
            }
        ],
        actions=["Deny", "Audit"],
    ),
    *rollout_action.GUARD,
    *validating(
        "modelops-version-in-use",
        rules(["DELETE"], ["modelversions"]),
        [
            {
                "expression": "oldObject.?status.?usedBy.orValue([]).size() == 0 || " + WITH_ITS_NAMESPACE,
                "messageExpression": "'ModelVersion ' + oldObject.metadata.name + ' is used by ' + "
                "string(oldObject.status.usedBy.size()) + ' services; move them to another version first'",
                "reason": "Forbidden",
            }
        ],
    ),
    *(
        manifest
        for kind in ("models", "modelversions", "inferenceservices", "rolloutpolicies", "modelapprovals")
        for manifest in validating(
            f"modelops-status-{kind}",
            rules(["CREATE", "UPDATE"], [f"{kind}/status"]),
            [
                {
                    "expression": check(kind, "'operate'"),
                    "message": f"status of {kind} is written by the ModelOps operator only",
                    "reason": "Forbidden",
                }
            ],
        )
    ),
    *validating(
        "modelops-status-modelnodes",
        rules(["CREATE", "UPDATE"], ["modelnodes", "modelnodes/status"]),
        [
            {
                "expression": check("modelnodes", "'operate'", namespaced=False),
                "message": "ModelNodes are written by the node agents only",
                "reason": "Forbidden",
            },
            {
                # A token without the claim is not that of a pod on a node, whatever its rights.
                "expression": "!request.userInfo.username.startsWith('system:serviceaccount:') || "
                f"request.userInfo.?extra[?'{NODE_CLAIM}'].orValue([]) == [object.metadata.name]",
                "message": "a node agent writes the ModelNode of its own node only",
                "reason": "Forbidden",
            },
        ],
    ),
)


def required(*, stamping: bool) -> tuple[Manifest, ...]:
    """Return every object of the gate; stamps only where the server has them."""
    return (*STAMPS, *GUARDS) if stamping else GUARDS


def spec_digest(manifest: Mapping[str, Any]) -> str:
    """Return the digest of a policy's or binding's whole spec."""
    return hashlib.sha256(canonical(manifest["spec"])).hexdigest()


def template() -> str:
    """Return the chart template of the whole gate, and the names that the operator may read."""
    return (
        "{{- /* Written by: make crds.  Source: operator/modelops/governance/policies.py */ -}}\n"
        f"{_named('modelops.gateGuards', GUARDS)}{_named('modelops.gateStamps', STAMPS)}"
        f"{{{{- if .Values.gate.enabled }}}}\n{_documents(GUARDS)}"
        f'{{{{- if include "modelops.stamping" . }}}}\n{_documents(STAMPS)}{{{{- end }}}}\n{{{{- end }}}}\n'
    )


def _named(name: str, manifests: Sequence[Manifest]) -> str:
    """Return the definition of a list of the objects' names; a policy and its binding share one."""
    names = dict.fromkeys(one["metadata"]["name"] for one in manifests)
    lines = "\n".join(f"- {name}" for name in names)
    return f'{{{{- define "{name}" -}}}}\n{lines}\n{{{{- end -}}}}\n'


_LABELS = "written by the chart"


def _documents(manifests: Sequence[Manifest]) -> str:
    """Return the objects as YAML with the chart's labels; braces of their own stay text."""
    labelled = [{**one, "metadata": {**one["metadata"], "labels": _LABELS}} for one in manifests]
    text = yaml.safe_dump_all(labelled, sort_keys=False, width=120, explicit_start=True)
    include = '\n    {{- include "modelops.labels" $ | nindent 4 }}'
    return text.replace("{{", '{{ "{{" }}').replace(f" {_LABELS}\n", f"{include}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the template, or with --check say whether it is stale."""
    parser = argparse.ArgumentParser(prog="python -m modelops.governance.policies", description=__doc__)
    parser.add_argument(
        "--chart", type=Path, required=True, metavar="DIR", help="templates folder of the chart"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is stale")
    args = parser.parse_args(argv)
    path = args.chart / "approval-gate.yaml"
    text = template()
    if args.check:
        if path.exists() and path.read_text() == text:
            return 0
        print(f"{path}: is stale; run make crds", file=sys.stderr)
        return 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
