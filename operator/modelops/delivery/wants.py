"""Decide which artifacts a node should have."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from modelops.api import names
from modelops.artifacts.digest import is_digest
from modelops.plan import Manifest


@dataclass(frozen=True, slots=True)
class Version:
    """What the agent needs to know of a ModelVersion that is pinned."""

    namespace: str
    name: str
    digest: str
    revision: str
    source: Mapping[str, Any]
    secret: str | None
    nodes: frozenset[str]
    """Nodes that the operator chose."""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that serves a version."""

    namespace: str
    node: str
    version: str
    digest_label: str


def version_of(obj: Manifest) -> Version | None:
    """Return what the agent needs of a ModelVersion, or None while it is not pinned to bytes."""
    meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    revision = (status.get("resolved") or {}).get("revision")
    digest = status.get("artifactDigest")
    if not isinstance(digest, str) or not is_digest(digest) or not revision or meta.get("deletionTimestamp"):
        return None
    nodes = (status.get("cache") or {}).get("nodes") or ()
    return Version(
        namespace=meta["namespace"],
        name=meta["name"],
        digest=digest,
        revision=revision,
        source=spec.get("source") or {},
        secret=(spec.get("authSecretRef") or {}).get("name"),
        nodes=frozenset(node["name"] for node in nodes),
    )


def pod_of(obj: Manifest) -> Pod | None:
    """Return a pod that still needs its model, or None: unscheduled, ended, or no pod of ours."""
    labels = obj["metadata"].get("labels") or {}
    node = (obj.get("spec") or {}).get("nodeName")
    phase = (obj.get("status") or {}).get("phase")
    version, digest = labels.get(names.VERSION_LABEL), labels.get(names.DIGEST)
    if not version or not digest or not node or phase in ("Succeeded", "Failed"):
        return None
    return Pod(obj["metadata"]["namespace"], node, version, digest)


def wants(node: str, versions: Iterable[Version], pods: Iterable[Pod]) -> dict[str, tuple[Version, ...]]:
    """Return the versions by digest that *node* should have, those that pods wait for first.

    Versions of one digest differ in source and Secret only: any of them may bring the bytes.
    """
    asked = {(pod.namespace, pod.version, pod.digest_label) for pod in pods if pod.node == node}

    def is_asked(version: Version) -> bool:
        return (version.namespace, version.name, names.digest_label(version.digest)) in asked

    wanted = [version for version in versions if node in version.nodes or is_asked(version)]
    wanted.sort(key=lambda version: (not is_asked(version), version.namespace, version.name))
    found: dict[str, tuple[Version, ...]] = {}
    for version in wanted:
        found[version.digest] = (*found.get(version.digest, ()), version)
    return found
