"""What several kinds gather alike: the environment, what it demands, and the approvals of a version."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from modelops.api import names
from modelops.api.approval import ModelApproval
from modelops.api.model import Approvals, Model
from modelops.api.quantities import parse_duration
from modelops.api.version import ModelVersion
from modelops.artifacts.canonical import canonical, spec_hash
from modelops.controllers.rows import ModelNodeStored, NamespaceStored, loaded
from modelops.controllers.seam import Parts
from modelops.controllers.store import Key, OwnRow, Store
from modelops.governance.approvals import Approval
from modelops.governance.countersign import GateState
from modelops.governance.requirements import NOTHING, Requirement, stricter
from modelops.plan import Manifest
from modelops.registry.approval import is_trusted
from modelops.registry.snapshot import ApprovalSnapshot, CacheRow

GATE = Key("Gate", "", "approval")
"""Under which the gate's self-test leaves its finding."""
GATE_TOPIC = "state"
BY_VERSION = "version"
BY_DIGEST = "digest"


@dataclass(frozen=True, slots=True)
class GateKeys:
    """Keys that countersign approvals, by key id; never printed."""

    by_id: Mapping[str, bytes]
    current: str


def parse(row: Any, kind: type[Any]) -> Any:
    """Return the stored object of one of our kinds."""
    return kind.parse(loaded(row))


def environment(store: Store, namespace: str) -> str:
    """Return the environment of a namespace; unknown when the Namespace was not read."""
    row = store.get("Namespace", "", namespace)
    return row.environment if isinstance(row, NamespaceStored) else names.UNKNOWN_ENVIRONMENT


def requirement(parts: Parts, model: Model | None, environment: str) -> Requirement:
    """Return what the environment's floor and the model's own governance demand together."""
    floor = parts.settings.environments.get(environment)
    base = NOTHING
    if floor is not None:
        formats = None if floor.formats is None else frozenset(floor.formats)
        base = Requirement(floor.approvals or 0, bool(floor.separation_of_duties), formats)
    governance = model.spec.governance if model else None
    if governance is None:
        return base
    own = _approvals(governance.approvals, environment)
    allowed = governance.formats.allowed if governance.formats else None
    formats = None if allowed is None else frozenset(str(f) for f in allowed)
    return stricter(base, Requirement(own.approvals, own.separation_of_duties, formats))


def _approvals(asked: Approvals | None, environment: str) -> Requirement:
    if asked is None:
        return NOTHING
    if asked.environments is not None and environment not in asked.environments:
        return NOTHING
    required = 1 if asked.required is None else asked.required
    separated = True if asked.separation_of_duties is None else asked.separation_of_duties
    return Requirement(required, separated)


def validity(model: Model | None) -> timedelta | None:
    """Return how long an approval without an end of its own counts; None: without end."""
    governance = model.spec.governance if model else None
    text = governance.approvals.validity if governance and governance.approvals else None
    return parse_duration(text) if text else None


def approvals(
    parts: Parts, keys: GateKeys, version: ModelVersion, model: Model | None
) -> tuple[Approval, ...]:
    """Return every ModelApproval of the version, with its trust proven again."""
    namespace = version.namespace or ""
    span = validity(model)
    rows = parts.store.find("ModelApproval", BY_VERSION, f"{namespace}/{version.name}")
    return tuple(_approval(parts, keys, loaded(row), span) for row in rows)


def approval_snapshot(parts: Parts, keys: GateKeys, obj: Manifest) -> ApprovalSnapshot:
    """Return what the trust of one approval is decided from."""
    approval = ModelApproval.parse(obj)
    created = obj["metadata"]["creationTimestamp"]
    found = parts.observations.get(GATE, GATE_TOPIC)
    return ApprovalSnapshot(
        approval=approval,
        status=obj.get("status") or {},
        spec_sha256=hashlib.sha256(canonical(obj["spec"])).hexdigest(),
        created_at=datetime.fromisoformat(created),
        created_text=created,
        gate=found if isinstance(found, GateState) else GateState(),
        keys=keys.by_id,
        key_id=keys.current,
    )


def _approval(parts: Parts, keys: GateKeys, obj: Manifest, span: timedelta | None) -> Approval:
    seen = approval_snapshot(parts, keys, obj)
    spec = seen.approval.spec
    expires = spec.expires_at
    if span is not None:
        limit = seen.created_at + span
        expires = limit if expires is None else min(expires, limit)
    return Approval(
        name=seen.approval.name,
        approver=spec.approver.username if spec.approver else "",
        decision=str(spec.decision),
        model=spec.model_ref,
        version=spec.version_ref,
        artifact_digest=spec.artifact_digest,
        spec_hash=spec.spec_hash,
        environments=tuple(spec.environments),
        created_at=seen.created_at,
        expires_at=expires,
        is_trusted=is_trusted(seen),
    )


def authors(version: ModelVersion) -> frozenset[str]:
    """Return who made the version: its creator, and the author that its lineage names."""
    lineage = version.spec.lineage
    found = (version.spec.created_by, lineage.author if lineage else None)
    return frozenset(name for name in found if name)


def version_spec_hash(obj: Manifest) -> str:
    """Return the hash of a version's spec, as approvals name it."""
    return spec_hash(obj["spec"])


def cache(store: Store, digest: str) -> tuple[CacheRow, ...]:
    """Return what every node's agent says about an artifact, by node."""
    found = []
    for row in store.rows("ModelNode"):
        if isinstance(row, ModelNodeStored) and digest in row.cache:
            found.append(row.cache[digest])
    return tuple(sorted(found, key=lambda entry: entry.node))


def raw_status(row: OwnRow) -> Mapping[str, Any]:
    """Return the stored status of an own object, as it is on the wire."""
    return json.loads(row.json).get("status") or {}
