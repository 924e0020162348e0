"""Decide whether one ModelApproval is trusted: signed once, while the gate was proven."""

from datetime import datetime

from modelops.governance.countersign import Record, is_countersigned, mac, may_countersign
from modelops.plan import Manifest, Plan
from modelops.registry.snapshot import ApprovalSnapshot


def plan(seen: ApprovalSnapshot, now: datetime) -> Plan:
    """Return the trust in the record; a countersigned one stays trusted through later gate changes."""
    record = Record(seen.approval.uid, seen.created_text, seen.spec_sha256)
    if is_trusted(seen):
        return Plan(status=_trusted(seen, seen.status["countersign"]))
    refusal = may_countersign(seen.gate, seen.created_at)
    key = seen.keys.get(seen.key_id)
    if refusal is None and key is not None:
        return Plan(status=_trusted(seen, {"keyId": seen.key_id, "mac": mac(key, record)}))
    code = refusal.code if refusal else "NoKey"
    why = refusal.message if refusal else "the gate has no key to sign with; install the chart's Secret"
    status: Manifest = {
        "observedGeneration": seen.approval.metadata.generation,
        "trust": "Untrusted",
        "reason": code,
        "message": f"{seen.approval.name}: {why}",
    }
    return Plan(status=status)


def is_trusted(seen: ApprovalSnapshot) -> bool:
    """Return whether the stored mark is ours and covers this very record."""
    mark = seen.status.get("countersign") or {}
    record = Record(seen.approval.uid, seen.created_text, seen.spec_sha256)
    return is_countersigned(dict(seen.keys), record, mark.get("keyId", ""), mark.get("mac", ""))


def _trusted(seen: ApprovalSnapshot, mark: Manifest) -> Manifest:
    return {
        "observedGeneration": seen.approval.metadata.generation,
        "trust": "Trusted",
        "reason": "GateEnforced",
        "message": f"{seen.approval.name}: made while the approval gate was in force",
        "countersign": mark,
    }
