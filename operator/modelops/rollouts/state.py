"""What a rollout remembers between two looks: `.status.rollout`, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

KEEP_REJECTED = 10
"""Revisions that are remembered as rolled back, and as promoted."""


class Phase(StrEnum):
    """Where a rollout stands.  Source: research/rollouts.md 3.1."""

    STABLE = "Stable"
    AWAITING_APPROVAL = "AwaitingApproval"
    STARTING = "Starting"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    PROMOTING = "Promoting"
    BAKING = "Baking"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"
    REVERTING = "Reverting"
    SUPERSEDING = "Superseding"


class Pause(StrEnum):
    """Why a rollout is paused; a set, each with its own end."""

    USER = "User"
    STEP = "Step"
    NO_DATA = "NoData"
    METRICS_UNAVAILABLE = "MetricsUnavailable"
    INCONCLUSIVE = "Inconclusive"
    ROUTE_NOT_ACCEPTED = "RouteNotAccepted"
    WAITING_FOR_CAPACITY = "WaitingForCapacity"
    POLICY_MISSING = "PolicyMissing"
    HELD = "Held"


@dataclass(frozen=True, slots=True)
class Revision:
    """One version with one set of serving inputs; pods and Services carry its hash."""

    hash: str
    """Eight hex digits."""
    version: str
    """Name of the ModelVersion."""
    digest: str = ""
    """The version's artifactDigest."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A revision that was rolled back; it is not tried again unless a Retry names its run."""

    hash: str
    version: str
    at: datetime
    reason: str
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Acted:
    """The last action of a person that was carried out."""

    action: str
    run_id: str


@dataclass(frozen=True, slots=True)
class Rollout:
    """The whole memory of a service's rollouts.

    ``stable`` is defined from the first promotion on and moves in one write.  ``weight`` is what the
    candidate should get, written ahead of the route; ``since`` of the route's acceptance runs the dwell.
    """

    phase: Phase = Phase.STABLE
    stable: Revision | None = None
    candidate: Revision | None = None
    previous: Revision | None = None
    """The version that served before, kept warm while baking."""
    run_id: str = ""
    attempt: int = 0
    paused_for: frozenset[Pause] = frozenset()
    step: int = 0
    """Index of the step whose weight is wanted."""
    resumed: int = -1
    """Index of the waiting step that a person let go on; -1: none."""
    is_overruled: bool = False
    """Whether a person let the run go on past its maxDuration."""
    weight: int = 0
    """Percent of requests that the candidate should get."""
    capacity: int = 0
    """Percent of requests that the candidate's pods are sized for; runs ahead of ``weight``."""
    accepted: int | None = None
    """Weight of the candidate on the accepted route; None: not seen in this run."""
    phase_at: datetime | None = None
    """When the phase began."""
    started_at: datetime | None = None
    """When the run began."""
    ready_at: datetime | None = None
    """When the candidate became ready in this run: windows are counted from here."""
    step_at: datetime | None = None
    """When the step's weight was accepted: the dwell is counted from here."""
    unready_at: datetime | None = None
    """Since when the candidate has fewer ready pods than its step needs."""
    unaccepted_at: datetime | None = None
    """Since when the accepted route has another weight than the step."""
    judged_to: datetime | None = None
    """End of the last window that moved a step, so that one window moves one step."""
    rejected: tuple[Rejected, ...] = ()
    """At most ten, oldest first."""
    promoted: tuple[str, ...] = ()
    """Hashes that were promoted, oldest first; the last is stable."""
    acted: Acted | None = None
    frozen: Mapping[str, Any] = field(default_factory=dict)
    """Boundaries of the judge, fixed for the run."""
    reason: str = ""
    """Why the last transition happened, as a reason code."""
    message: str = ""
    """Why, in one sentence."""


def rejects(state: Rollout, revision_hash: str) -> Rejected | None:
    """Return the rejection of this revision, if there is one."""
    return next((r for r in state.rejected if r.hash == revision_hash), None)


def to_status(state: Rollout) -> dict[str, Any]:
    """Return the memory as plain data with camelCase keys; empty fields are left out.

    Law: ``from_status(to_status(state)) == state``.
    """
    out = {
        "phase": state.phase.value,
        "stable": _revision(state.stable),
        "candidate": _revision(state.candidate),
        "previous": _revision(state.previous),
        "runId": state.run_id,
        "attempt": state.attempt,
        "pausedFor": sorted(p.value for p in state.paused_for),
        "step": _drop_none(
            {
                "index": state.step,
                "startedAt": _print(state.step_at),
                "resumed": state.resumed if state.resumed >= 0 else None,
            }
        ),
        "traffic": _drop_none({"desired": state.weight, "observed": state.accepted}),
        "capacity": state.capacity,
        "overruled": state.is_overruled or None,
        "phaseAt": _print(state.phase_at),
        "startedAt": _print(state.started_at),
        "readyAt": _print(state.ready_at),
        "unreadyAt": _print(state.unready_at),
        "unacceptedAt": _print(state.unaccepted_at),
        "judgedTo": _print(state.judged_to),
        "rejected": [
            {"hash": r.hash, "version": r.version, "at": _print(r.at), "reason": r.reason, "runId": r.run_id}
            for r in state.rejected
        ],
        "promoted": list(state.promoted),
        "acted": {"action": state.acted.action, "runId": state.acted.run_id} if state.acted else None,
        "frozen": dict(state.frozen),
        "reason": state.reason,
        "message": state.message,
    }
    return {key: value for key, value in out.items() if value not in (None, "", [], {})}


def from_status(status: Mapping[str, Any]) -> Rollout:
    """Return the memory that a status holds; an empty one is a service that never served."""
    acted = status.get("acted")
    step, traffic = status.get("step", {}), status.get("traffic", {})
    return Rollout(
        phase=Phase(status.get("phase", Phase.STABLE)),
        stable=_parse_revision(status.get("stable")),
        candidate=_parse_revision(status.get("candidate")),
        previous=_parse_revision(status.get("previous")),
        run_id=status.get("runId", ""),
        attempt=status.get("attempt", 0),
        paused_for=frozenset(Pause(p) for p in status.get("pausedFor", ())),
        step=step.get("index", 0),
        resumed=step.get("resumed", -1),
        weight=traffic.get("desired", 0),
        capacity=status.get("capacity", 0),
        is_overruled=status.get("overruled", False),
        accepted=traffic.get("observed"),
        phase_at=_parse(status.get("phaseAt")),
        started_at=_parse(status.get("startedAt")),
        ready_at=_parse(status.get("readyAt")),
        step_at=_parse(step.get("startedAt")),
        unready_at=_parse(status.get("unreadyAt")),
        unaccepted_at=_parse(status.get("unacceptedAt")),
        judged_to=_parse(status.get("judgedTo")),
        rejected=tuple(
            Rejected(
                r["hash"],
                r.get("version", ""),
                _parse(r["at"]) or datetime.min,
                r.get("reason", ""),
                r.get("runId", ""),
            )
            for r in status.get("rejected", ())
        ),
        promoted=tuple(status.get("promoted", ())),
        acted=Acted(acted["action"], acted["runId"]) if acted else None,
        frozen=dict(status.get("frozen", {})),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
    )


def _drop_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _revision(revision: Revision | None) -> dict[str, str] | None:
    if revision is None:
        return None
    out = {"hash": revision.hash, "version": revision.version, "artifactDigest": revision.digest}
    return {key: value for key, value in out.items() if value}


def _parse_revision(value: Mapping[str, str] | None) -> Revision | None:
    if not value:
        return None
    return Revision(value["hash"], value.get("version", ""), value.get("artifactDigest", ""))


def _print(instant: datetime | None) -> str | None:
    """Print with microseconds: a step's clock must not lose a fraction at every restart."""
    return instant.isoformat().replace("+00:00", "Z") if instant else None


def _parse(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
