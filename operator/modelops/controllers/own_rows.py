"""Own objects, packed whole, with what others ask of them and what figures are told from beside it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from sys import intern
from typing import Any

from modelops.api import names
from modelops.controllers.store import OwnRow
from modelops.plan import Manifest

UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRow(OwnRow):
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
    """Version and planned node of each revision, and each node of a group."""
    is_waiting: bool
    """Whether it waits for room on the nodes."""
    has_run: bool
    """Whether it has a stable and a candidate, so that there may be something to measure."""
    measured: str
    """What engines told of their caches, as JSON; empty: nothing."""
    is_unmeasured: bool
    """Whether one has yet to tell: a revision was planned with figures that its status says nothing about."""
    ready: str
    unready_since: str
    """When its Ready condition flipped last; "" while it is ready."""
    unready_reason: str
    unplaced: str
    """Why the wanted version has no place; "" when it has one."""
    phase: str
    phase_at: str
    stable: str
    """Hash of the revision that serves; "" before the first."""


def service(obj: Manifest) -> ServiceRow:
    """Return the row of an InferenceService."""
    spec, status = obj["spec"], obj.get("status") or {}
    choice = spec.get("model") or {}
    ready, placed = _condition(status, "Ready"), _condition(status, "Placed")
    rollout: Mapping[str, Any] = status.get("rollout") or {}
    said = str(ready.get("status", UNKNOWN))
    placement = status.get("placement") or {}
    records, measured = placement.get("revisions") or (), placement.get("measured") or ()
    return ServiceRow.of(
        obj,
        versions=_interned(sorted(_versions(choice, status, records))),
        model=intern(choice.get("name") or ""),
        policy=intern((spec.get("rolloutPolicyRef") or {}).get("name") or ""),
        digests=_interned(sorted({names.digest_label(record["digest"]) for record in records})),
        places=tuple(_places(records)),
        is_waiting=placed.get("status") != "True",
        has_run=bool(status.get("stable") and status.get("candidate")),
        measured=intern(json.dumps(measured)) if measured else "",
        is_unmeasured=bool(_bases(records) - {one.get("basis") for one in measured}),
        ready=intern(said),
        unready_since="" if said == "True" else str(ready.get("lastTransitionTime", "")),
        unready_reason="" if said == "True" else intern(str(ready.get("reason", ""))),
        unplaced=intern(str(placed.get("reason", ""))) if placed.get("status") == "False" else "",
        phase=intern(str(rollout.get("phase", ""))),
        phase_at=str(rollout.get("phaseAt", "")),
        stable=intern(str((status.get("stable") or {}).get("hash", ""))),
    )


def _versions(
    choice: Mapping[str, Any], status: Mapping[str, Any], records: Iterable[Mapping[str, Any]]
) -> set[str]:
    found = {choice.get("version"), status.get("model")}
    found |= {(status.get(role) or {}).get("version") for role in ("stable", "candidate")}
    found |= {record.get("version") for record in records}
    return {name for name in found if name}


def _places(records: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for record in records:
        place = record.get("placement") or {}
        for node in dict.fromkeys((place.get("node"), *place.get("members", ()))):
            yield intern(record.get("version") or ""), intern(node or "")


def _bases(records: Iterable[Mapping[str, Any]]) -> set[Any]:
    found = ((record.get("placement") or {}).get("basis") for record in records)
    return {basis for basis in found if basis}


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow(OwnRow):
    """A ModelVersion."""

    model: str
    digest: str
    """Of its artifact; empty until it is resolved."""
    phase: str
    broken_since: str
    """Since when its bytes could not be proven anywhere, after a failed fetch; "" when nothing failed."""
    ignored: tuple[str, ...]
    """Why approvals of it do not count, one code for each."""


def version(obj: Manifest) -> VersionRow:
    """Return the row of a ModelVersion."""
    status: Mapping[str, Any] = obj.get("status") or {}
    verified = _condition(status, "IntegrityVerified")
    is_broken = verified.get("status") == "False"
    lines = (status.get("approval") or {}).get("environments") or ()
    return VersionRow.of(
        obj,
        model=intern(obj["spec"].get("modelRef") or ""),
        digest=intern(status.get("artifactDigest") or ""),
        phase=intern(str(status.get("phase", ""))),
        broken_since=str(verified.get("lastTransitionTime", "")) if is_broken else "",
        ignored=tuple(intern(str(one["reason"])) for line in lines for one in line.get("ignored") or ()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRow(OwnRow):
    """A ModelApproval."""

    version: str
    trust: str
    reason: str


def approval(obj: Manifest) -> ApprovalRow:
    """Return the row of a ModelApproval."""
    status: Mapping[str, Any] = obj.get("status") or {}
    return ApprovalRow.of(
        obj,
        version=intern(obj["spec"].get("versionRef") or ""),
        trust=intern(str(status.get("trust", UNKNOWN))),
        reason=intern(str(status.get("reason", ""))),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRow(OwnRow):
    """A RolloutPolicy."""

    is_default: bool
    """Whether it is the one of services that name none."""


def policy(obj: Manifest) -> PolicyRow:
    """Return the row of a RolloutPolicy."""
    labels = obj["metadata"].get("labels") or {}
    return PolicyRow.of(obj, is_default=labels.get(names.DEFAULT_POLICY) == "true")


def _condition(status: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    return next((one for one in status.get("conditions") or () if one["type"] == type_), {})


def _interned(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(intern, texts))
