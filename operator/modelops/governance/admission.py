"""The parts that admission policies are built from: what they match, whom they ask, what they refuse."""

from collections.abc import Sequence
from typing import Any

from modelops.api.names import APPROVAL_GROUP, GROUP
from modelops.plan import Manifest

ADMISSION = "admissionregistration.k8s.io/v1"


def rules(operations: Sequence[str], resources: Sequence[str]) -> Manifest:
    return {
        "matchPolicy": "Equivalent",
        "namespaceSelector": {},
        "objectSelector": {},
        "resourceRules": [
            {
                "apiGroups": [GROUP],
                "apiVersions": ["*"],
                "operations": list(operations),
                "resources": list(resources),
                "scope": "*",
            }
        ],
    }


def check(resource: str, verb: str, name: str = "", *, namespaced: bool = True) -> str:
    """Return the CEL question whether the requester holds *verb* in the virtual group."""
    where = ".namespace(request.namespace)" if namespaced else ""
    whom = f".name({name})" if name else ""
    return f"authorizer.group('{APPROVAL_GROUP}').resource('{resource}'){where}{whom}.check({verb}).allowed()"


def lacks(verb: str, name: str, act: str = "") -> str:
    """Return the CEL text that tells the requester which right is missing, on the Model *name*."""
    why = f", which {act} needs" if act else ""
    return (
        f"'user ' + request.userInfo.username + ' lacks verb {verb} on models/' + {name} + "
        f"'{why}; ask an administrator for it'"
    )


def validating(
    name: str,
    constraints: Manifest,
    validations: Sequence[Manifest],
    **more: Any,
) -> tuple[Manifest, Manifest]:
    actions = more.pop("actions", ["Deny"])
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": constraints,
        "validations": list(validations),
        **more,
    }
    return (
        {
            "apiVersion": ADMISSION,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": spec,
        },
        {
            "apiVersion": ADMISSION,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": actions},
        },
    )


def stamping(
    name: str, resource: str, mutation: Manifest, *, operations: Sequence[str] = ("CREATE",), **more: Any
) -> tuple[Manifest, Manifest]:
    return (
        {
            "apiVersion": ADMISSION,
            "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "reinvocationPolicy": "Never",
                "matchConstraints": rules(operations, [resource]),
                "mutations": [mutation],
                **more,
            },
        },
        {
            "apiVersion": ADMISSION,
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name},
        },
    )


def fields(expression: str) -> Manifest:
    """Return a mutation that sets the fields of *expression* and leaves all others."""
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}
