"""Own objects, kept whole, with the few fields that figures are told from."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelops.controllers.store import OwnRow
from modelops.plan import Manifest

UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRow(OwnRow):
    """An InferenceService, with what is told of it."""

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
    status: Mapping[str, Any] = obj.get("status") or {}
    ready, placed = _condition(status, "Ready"), _condition(status, "Placed")
    rollout: Mapping[str, Any] = status.get("rollout") or {}
    said = str(ready.get("status", UNKNOWN))
    return ServiceRow.of(
        obj,
        ready=sys.intern(said),
        unready_since="" if said == "True" else str(ready.get("lastTransitionTime", "")),
        unready_reason="" if said == "True" else sys.intern(str(ready.get("reason", ""))),
        unplaced=sys.intern(str(placed.get("reason", ""))) if placed.get("status") == "False" else "",
        phase=sys.intern(str(rollout.get("phase", ""))),
        phase_at=str(rollout.get("phaseAt", "")),
        stable=str((status.get("stable") or {}).get("hash", "")),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow(OwnRow):
    """A ModelVersion, with what is told of it."""

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
        phase=sys.intern(str(status.get("phase", ""))),
        broken_since=str(verified.get("lastTransitionTime", "")) if is_broken else "",
        ignored=tuple(sys.intern(str(one["reason"])) for line in lines for one in line.get("ignored") or ()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRow(OwnRow):
    """A ModelApproval, with what is told of it."""

    trust: str
    reason: str


def approval(obj: Manifest) -> ApprovalRow:
    """Return the row of a ModelApproval."""
    status: Mapping[str, Any] = obj.get("status") or {}
    trust = str(status.get("trust", UNKNOWN))
    return ApprovalRow.of(obj, trust=sys.intern(trust), reason=sys.intern(str(status.get("reason", ""))))


def _condition(status: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    return next((one for one in status.get("conditions") or () if one["type"] == type_), {})
