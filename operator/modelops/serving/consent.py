"""Who may promote a run: on which model an approval is asked for, and whether one can be believed now."""

from modelops.plan import Reason
from modelops.rollouts.state import Rollout
from modelops.serving.snapshot import Snapshot, VersionRow


def model_of(seen: Snapshot, state: Rollout) -> str:
    """Return the Model on which a Promote must be an approval; empty: the policy asks for none.

    A policy that is away, or a version that is, takes nothing back: what was asked for last stays.
    """
    rollout = seen.status.get("rollout") or {}
    before = str((rollout.get("approval") or {}).get("model", ""))
    if seen.policy is None:
        return before if seen.policy_fault is not None or state.is_at_step else ""
    if not seen.policy.asks_approval:
        return ""
    row = seen.versions.get(state.candidate.version) if state.candidate else seen.wanted
    if row is None and state.candidate and _names(seen.wanted, state.candidate.version):
        row = seen.wanted
    return row.version.spec.model_ref if isinstance(row, VersionRow) else before


def distrust(seen: Snapshot) -> Reason | None:
    """Return why no approval can be believed now; None: the gate is proven to be in force."""
    if seen.gate.is_green:
        return None
    return seen.gate.fault or Reason(
        "GateNotProven", "the approval gate was not checked yet; wait for its self-test"
    )


def _names(wanted: VersionRow | Reason, version: str) -> bool:
    return isinstance(wanted, VersionRow) and wanted.version.name == version
