"""Make every name, label and annotation key of the product, here and nowhere else."""

import hashlib
from typing import Any, Protocol

GROUP = "modelops.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
APPROVAL_GROUP = "approval.modelops.dev"
"""Virtual group of the custom verbs, so that no `*` on the product's group ever grants one."""
FIELD_MANAGER = "modelops"
DELIVERY_FIELD_MANAGER = "modelops-delivery"
NODES_FIELD_MANAGER = "modelops-nodes"

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY_VALUE = "modelops"

# Labels.
SERVICE = "modelops.dev/service"
REVISION = "modelops.dev/revision"
VERSION_LABEL = "modelops.dev/version"
MODEL = "modelops.dev/model"
ENGINE = "modelops.dev/engine"
ROLE = "modelops.dev/role"
"""In the metadata of a Deployment only, never on its pods: promotion must restart nothing."""
DIGEST = "modelops.dev/digest"
"""As label the first 63 letters of `digest_label`, as annotation the whole digest."""
ENVIRONMENT = "modelops.dev/environment"
DEFAULT_POLICY = "modelops.dev/default-rollout-policy"
EVALUATES = "modelops.dev/evaluates"
"""On an evaluation Job and its pod: the service whose candidate it judges."""
DELIVERY_SECRET = "modelops.dev/delivery"

GROUP_INDEX = "leaderworkerset.sigs.k8s.io/worker-index"
"""Set by LeaderWorkerSet on the pods of a group: 0 leads."""

WORKLOADS = ("Deployment", "LeaderWorkerSet")
"""Kinds that carry the pods of a revision."""

# Annotations.
APPLIED_HASH = "modelops.dev/applied-hash"
INPUTS_HASH = "modelops.dev/inputs-hash"
FOUND_WEIGHTS = "weights.modelops.dev/"
"""Before the name of a service, on a route of a user: the weights as they were found."""

# Roles that have a Service of their own, for routes of users.
STABLE, CANARY = "stable", "canary"

DEFAULT_ENVIRONMENT = "default"
"""The environment of a namespace without the label."""
UNKNOWN_ENVIRONMENT = ""
"""That of a namespace which was not read: nothing starts there, since its floor is not known."""

LABEL_LENGTH = 63
_DIGEST_PREFIX = "sha256:"
_HEX_LENGTH = 64


class Owned(Protocol):
    """What an owner reference needs to know."""

    @property
    def api_version(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def uid(self) -> str: ...


def revision_name(service: str, hash8: str) -> str:
    """Return the name of the Deployment and Service of one revision, `<service>-<hash8>`."""
    return _short(f"{service}-{hash8}")


def role_service_name(service: str, role: str) -> str:
    """Return the name of the Service that a user's route sends to, `<service>-stable` or `-canary`."""
    return f"{service}-{role}"


def service_of_role(name: str) -> str:
    """Return the service whose role Service would bear *name*; empty: it is no such name."""
    service, _, role = name.rpartition("-")
    return service if role in (STABLE, CANARY) else ""


def claim_name(digest: str) -> str:
    """Return the name of the claim for the artifact *digest* in any namespace."""
    return f"model-{_hex(digest)[:32]}"


def volume_name(namespace: str, digest: str) -> str:
    """Return the name of the cluster-scoped volume of *digest* for one *namespace*."""
    return f"modelops-{_sha(namespace)[:12]}-{_hex(digest)[:32]}"


def resolve_job_name(version_name: str, spec_hash: str) -> str:
    """Return the name of the Job that pins one ModelVersion with one spec."""
    return _short(f"resolve-{version_name}-{_hex(spec_hash)[:8]}")


def store_folder(digest: str) -> str:
    """Return the folder of *digest* in a node's store, `sha256-<64 hex>`."""
    return f"sha256-{_hex(digest)}"


def digest_label(digest: str) -> str:
    """Return *digest* as a label value: its first 63 hexadecimal letters."""
    return _hex(digest)[:LABEL_LENGTH]


def child_name(*parts: str) -> str:
    """Return *parts* joined by `-` as a DNS label: as it is when it fits, else cut and hashed."""
    return _short("-".join(parts))


def managed_labels(**labels: str) -> dict[str, str]:
    """Return *labels* plus the mark that this operator made the object."""
    return {MANAGED_BY: MANAGED_BY_VALUE, **labels}


def owner_reference(owner: Owned) -> dict[str, Any]:
    """Return the controller reference that ties a child to *owner*."""
    return {
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _short(name: str) -> str:
    """Return *name* as a DNS-1123 label of at most 63 letters.

    Dots, which object names may hold and labels may not, become dashes.  A changed name keeps its
    beginning and ends in a hash of the whole, so two names never meet.
    """
    label = name.replace(".", "-")
    if label == name and len(label) <= LABEL_LENGTH:
        return label
    return f"{label[: LABEL_LENGTH - 9].rstrip('-')}-{_sha(name)[:8]}"


def _hex(digest: str) -> str:
    """Return the 64 hexadecimal letters of `sha256:<hex>`."""
    letters = digest.removeprefix(_DIGEST_PREFIX)
    if len(letters) != _HEX_LENGTH or not set(letters) <= set("0123456789abcdef"):
        raise ValueError(f"digest: wanted sha256:<64 hex letters>, found {digest!r}; copy it from status")
    return letters


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
