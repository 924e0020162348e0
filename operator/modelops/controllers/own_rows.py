"""The rows of our own kinds: packed whole, with what others ask of them beside it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from sys import intern
from typing import Any

from modelops.api import names
from modelops.controllers.store import OwnRow
from modelops.plan import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStored(OwnRow):
    """An InferenceService."""

    versions: tuple[str, ...]
    """The versions that it names, runs, or is about to run, in order."""
    model: str
    """The Model whose alias it follows; empty when it names a version."""
    policy: str
    """The policy that it names; empty for the default one."""
    digests: tuple[str, ...]
    """Of the artifacts that its revisions mount, as labels."""
    places: tuple[tuple[str, str], ...]
    """Version and planned node of each revision."""
    is_waiting: bool
    """Whether it waits for room on the nodes."""
    has_run: bool
    """Whether it has a stable and a candidate, so that there may be something to measure."""


def service(obj: Manifest) -> ServiceStored:
    spec, status = obj["spec"], obj.get("status") or {}
    choice = spec.get("model") or {}
    records = (status.get("placement") or {}).get("revisions") or ()
    return ServiceStored.of(
        obj,
        versions=_interned(sorted(_versions(choice, status, records))),
        model=intern(choice.get("name") or ""),
        policy=intern((spec.get("rolloutPolicyRef") or {}).get("name") or ""),
        digests=_interned(sorted({names.digest_label(record["digest"]) for record in records})),
        places=tuple(
            (intern(record.get("version") or ""), intern((record.get("placement") or {}).get("node") or ""))
            for record in records
        ),
        is_waiting=_is_waiting(status),
        has_run=bool(status.get("stable") and status.get("candidate")),
    )


def _versions(
    choice: Mapping[str, Any], status: Mapping[str, Any], records: Iterable[Mapping[str, Any]]
) -> set[str]:
    found = {choice.get("version"), status.get("model")}
    found |= {(status.get(role) or {}).get("version") for role in ("stable", "candidate")}
    found |= {record.get("version") for record in records}
    return {name for name in found if name}


def _is_waiting(status: Mapping[str, Any]) -> bool:
    placed = next((c for c in status.get("conditions") or () if c["type"] == "Placed"), None)
    return placed is None or placed.get("status") != "True"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionStored(OwnRow):
    """A ModelVersion."""

    model: str
    digest: str
    """Of its artifact; empty until it is resolved."""


def version(obj: Manifest) -> VersionStored:
    digest = (obj.get("status") or {}).get("artifactDigest") or ""
    return VersionStored.of(obj, model=intern(obj["spec"].get("modelRef") or ""), digest=digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalStored(OwnRow):
    """A ModelApproval."""

    version: str


def approval(obj: Manifest) -> ApprovalStored:
    return ApprovalStored.of(obj, version=intern(obj["spec"].get("versionRef") or ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyStored(OwnRow):
    """A RolloutPolicy."""

    is_default: bool
    """Whether it is the one of services that name none."""


def policy(obj: Manifest) -> PolicyStored:
    labels = obj["metadata"].get("labels") or {}
    return PolicyStored.of(obj, is_default=labels.get(names.DEFAULT_POLICY) == "true")


def _interned(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(intern, texts))
