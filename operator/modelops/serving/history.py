"""What is kept of a service's rollouts: one entry of the audit chain for each transition, none between."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from modelops.analysis.verdict import MetricVerdict, Verdict, odds, percent
from modelops.governance import audit
from modelops.plan import Event, Manifest, instant
from modelops.rollouts.state import Phase, Rollout
from modelops.serving.snapshot import Snapshot

MOST_ROWS = 8
"""Metrics whose numbers a decision keeps."""
DECISIONS = frozenset({"Promoted", "RolledBack"})
"""Transitions by the judge's word, which keep its numbers."""
NO_TRANSITION = frozenset({"WeightDrift"})
SILENT: Mapping[Phase, str] = {
    Phase.BAKING: "Switched",
    Phase.STABLE: "Settled",
    Phase.ROLLED_BACK: "Withdrawn",
    Phase.PROGRESSING: "Resumed",
    Phase.AWAITING_APPROVAL: "AwaitingApproval",
    Phase.STARTING: "Approved",
}
"""Type of a transition that no event tells, by the phase that it leads to."""


def noted(
    seen: Snapshot,
    before: Rollout,
    after: Rollout,
    events: Sequence[Event],
    verdict: Verdict | None,
    now: datetime,
) -> Manifest:
    """Return ``history`` and ``audit`` for the status; as they are when nothing went on."""
    entry = _entry(before, after, events, verdict, now)
    return audit.appended(seen.status, seen.service.uid, () if entry is None else (entry,))


def _entry(
    before: Rollout, after: Rollout, events: Sequence[Event], verdict: Verdict | None, now: datetime
) -> Manifest | None:
    """Return what happened in this pass; None: nothing that is kept."""
    told = next((event for event in events if event.reason not in NO_TRANSITION), None)
    acted = after.acted if after.acted != before.acted else None
    if told is None and acted is None and (after.phase, after.run_id) == (before.phase, before.run_id):
        return None
    what = told.reason if told else SILENT.get(after.phase, "Acted") if acted is None else acted.action
    entry: Manifest = {
        "time": instant(now),
        "type": what,
        "from": before.phase.value,
        "to": after.phase.value,
        "reason": (told.message if told else after.message)[: audit.LONGEST_REASON],
        "runId": after.run_id,
        "version": _version(before, after),
        "weight": after.weight or None,
        "actor": {"kind": "User", "name": acted.by or "unknown"} if acted else None,
        "action": acted.action if acted else None,
        "approves": acted.approves if acted and acted.action == "Promote" else None,
        "evidence": _evidence(verdict) if what in DECISIONS else None,
    }
    return {key: value for key, value in entry.items() if value not in (None, "", [])}


def _version(before: Rollout, after: Rollout) -> str:
    """Return the version that the run is about."""
    for revision in (after.candidate, before.candidate, after.stable):
        if revision is not None:
            return revision.version
    return ""


def _evidence(verdict: Verdict | None) -> list[dict[str, Any]]:
    """Return the numbers that decided, by metric; decimals as text, since floats have no one form."""
    if verdict is None:
        return []
    bars = {"rollbackAt": odds(verdict.rollback_at), "promoteAt": odds(verdict.promote_at)}
    whole = {
        "metric": "all",
        "regression": odds(verdict.robust),
        "certificate": odds(verdict.certificate),
        **bars,
    }
    return [whole, *(_row(row) for row in verdict.metrics[:MOST_ROWS])]


def _row(row: MetricVerdict) -> dict[str, Any]:
    out = {
        "metric": row.label,
        "canary": percent(row.canary),
        "stable": percent(row.stable),
        "n": {"canary": row.n_canary, "stable": row.n_stable},
        "regression": odds(row.robust),
        "certificate": None if row.certificate is None else odds(row.certificate),
    }
    return {key: value for key, value in out.items() if value is not None}
