"""What a rollout remembers between two looks: `.status.rollout`, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

KEEP_REJECTED = 10
"""Revisions that are remembered as rolled back, and as promoted."""
KEEP_SPANS = 20
KEEP_ERAS = 8
"""Later edits of the analysis take effect with the next run: a window keeps what it was judged with."""


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
    APPROVAL = "Approval"
    BASELINE_UNHEALTHY = "BaselineUnhealthy"
    NOT_COMPARABLE = "NotComparable"
    ROUTE_NOT_ACCEPTED = "RouteNotAccepted"
    WAITING_FOR_CAPACITY = "WaitingForCapacity"
    POLICY_MISSING = "PolicyMissing"
    HELD = "Held"


class Awaits(StrEnum):
    """What a run in AwaitingApproval waits for; empty: for the gates of the version."""

    GATES = ""
    START = "Start"
    PROMOTION = "Promotion"


class Room(StrEnum):
    """Where the candidate's pods find room; fixed for a run."""

    SURGE = "Surge"
    """Beside all stable pods."""
    DYNAMIC_STABLE = "DynamicStable"
    """Stable has fewer pods as the candidate gets more."""
    RECREATE = "Recreate"
    """Stable ends first: nothing serves meanwhile."""
    SPLIT = "Replicas"
    """As DynamicStable; the numbers of pods are the shares of requests."""


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
    wait: int | None = None
    """Which wait of the run it is for; None: any, and the same action counts once in a run."""
    by: str = field(default="", compare=False)
    """Who asked, by the API server's word; empty: not recorded.  Another asker is no other action."""
    approves: str = field(default="", compare=False)
    """Model on which it is an approval; empty: it is none."""


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which a run stood still."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Era:
    """Settings that a run was judged with from *since* on, until the next era began."""

    since: datetime
    settings: Mapping[str, Any]


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
    awaits: Awaits = Awaits.GATES
    """In AwaitingApproval: what for."""
    wait: int = 0
    """How often this run began to wait, so that an action can say which wait it is for."""
    step: int = 0
    """Index of the step whose weight is wanted; -1: before the first, at the prelude if there is one."""
    passed: frozenset[Pause] = frozenset()
    """What a person let pass at this step."""
    is_overruled: bool = False
    """Whether a person let the run go on past its maxDuration."""
    weight: int = 0
    """Percent of requests that the candidate should get."""
    mirror: int = 0
    """Percent of stable's requests that are copied to the candidate."""
    is_matched: bool = False
    """Whether the requests that the policy matches go to the candidate."""
    room: Room = Room.SURGE
    capacity: int = 0
    """Percent of requests that the candidate's pods are sized for; runs ahead of ``weight``."""
    fixed_pods: int | None = None
    """Pods of the candidate by policy, whatever the percentage."""
    stable_capacity: int = 100
    """Percent of requests that stable's pods are sized for."""
    previous_capacity: int = 100
    """As stable_capacity, of the version that served before."""
    asked: int | None = None
    """Weight that the last pass really asked of the route: 0 while the candidate has no ready pod."""
    accepted: int | None = None
    """Weight of the candidate on the accepted route; None: not seen in this run."""
    is_misrouted: bool = False
    """Whether the requests counted at this step do not go with its weight."""
    alone_at: datetime | None = None
    """Since when the newest route is accepted by a gateway that says nothing about its references."""
    takes_alone: bool = False
    """Whether Accepted alone counts: this gateway never says whether references resolve."""
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
    waiting_at: datetime | None = None
    """Since when it lacks pods for which no node has room."""
    unaccepted_at: datetime | None = None
    """Since when the accepted route has another weight than the step."""
    judged_to: datetime | None = None
    """End of the last window that moved a step, so that one window moves one step."""
    paused_at: datetime | None = None
    """Since when the run stands still."""
    pauses: tuple[Span, ...] = ()
    """When it stood still before, oldest first; at most KEEP_SPANS."""
    eras: tuple[Era, ...] = ()
    """What it is judged with, oldest first; the last is in force; at most KEEP_ERAS."""
    promoted_at: datetime | None = None
    """When the stable pointer moved last."""
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

    @property
    def is_before_start(self) -> bool:
        """Whether people decide before the candidate's first pod."""
        return self.phase is Phase.AWAITING_APPROVAL and self.awaits is not Awaits.PROMOTION

    @property
    def is_at_step(self) -> bool:
        """Whether the candidate is judged at its step, moving or not."""
        waits = self.phase is Phase.AWAITING_APPROVAL and self.awaits is Awaits.PROMOTION
        return waits or self.phase in (Phase.PROGRESSING, Phase.PAUSED)

    @property
    def is_still(self) -> bool:
        """Whether the run stands still, so that its clock does."""
        return self.is_at_step and self.phase is not Phase.PROGRESSING

    @property
    def is_leaving(self) -> bool:
        """Whether the candidate is being taken away."""
        return self.phase in (Phase.ROLLING_BACK, Phase.REVERTING, Phase.SUPERSEDING)


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
                "passed": sorted(p.value for p in state.passed) or None,
            }
        ),
        "awaits": state.awaits.value,
        "wait": state.wait or None,
        "traffic": _drop_none(
            {
                "desired": state.weight,
                "observed": state.accepted,
                "asked": state.asked,
                "mirror": state.mirror or None,
                "matched": state.is_matched or None,
                "mismatch": state.is_misrouted or None,
                "acceptedAloneAt": _print(state.alone_at),
                "acceptedAlone": state.takes_alone or None,
            }
        ),
        "pods": _pods(state),
        "overruled": state.is_overruled or None,
        "phaseAt": _print(state.phase_at),
        "startedAt": _print(state.started_at),
        "readyAt": _print(state.ready_at),
        "unreadyAt": _print(state.unready_at),
        "waitingAt": _print(state.waiting_at),
        "unacceptedAt": _print(state.unaccepted_at),
        "judgedTo": _print(state.judged_to),
        "pausedAt": _print(state.paused_at),
        "pauses": [{"start": _print(s.start), "end": _print(s.end)} for s in state.pauses],
        "eras": [{"since": _print(e.since), "settings": dict(e.settings)} for e in state.eras],
        "promotedAt": _print(state.promoted_at),
        "rejected": [
            {"hash": r.hash, "version": r.version, "at": _print(r.at), "reason": r.reason, "runId": r.run_id}
            for r in state.rejected
        ],
        "promoted": list(state.promoted),
        "acted": _acted(state.acted),
        "frozen": dict(state.frozen),
        "reason": state.reason,
        "message": state.message,
    }
    return {key: value for key, value in out.items() if value not in (None, "", [], {})}


def from_status(status: Mapping[str, Any]) -> Rollout:
    """Return the memory that a status holds; an empty one is a service that never served."""
    step, traffic, pods = status.get("step", {}), status.get("traffic", {}), status.get("pods", {})
    return Rollout(
        phase=Phase(status.get("phase", Phase.STABLE)),
        stable=_parse_revision(status.get("stable")),
        candidate=_parse_revision(status.get("candidate")),
        previous=_parse_revision(status.get("previous")),
        run_id=status.get("runId", ""),
        attempt=status.get("attempt", 0),
        paused_for=frozenset(Pause(p) for p in status.get("pausedFor", ())),
        step=step.get("index", 0),
        passed=frozenset(Pause(p) for p in step.get("passed", ())),
        awaits=Awaits(status.get("awaits", "")),
        wait=status.get("wait", 0),
        weight=traffic.get("desired", 0),
        asked=traffic.get("asked"),
        mirror=traffic.get("mirror", 0),
        is_matched=traffic.get("matched", False),
        is_misrouted=traffic.get("mismatch", False),
        alone_at=_parse(traffic.get("acceptedAloneAt")),
        takes_alone=traffic.get("acceptedAlone", False),
        room=Room(pods.get("room", Room.SURGE)),
        capacity=pods.get("candidate", status.get("capacity", 0)),
        fixed_pods=pods.get("fixed"),
        stable_capacity=pods.get("stable", 100),
        previous_capacity=pods.get("previous", 100),
        is_overruled=status.get("overruled", False),
        accepted=traffic.get("observed"),
        phase_at=_parse(status.get("phaseAt")),
        started_at=_parse(status.get("startedAt")),
        ready_at=_parse(status.get("readyAt")),
        step_at=_parse(step.get("startedAt")),
        unready_at=_parse(status.get("unreadyAt")),
        waiting_at=_parse(status.get("waitingAt")),
        unaccepted_at=_parse(status.get("unacceptedAt")),
        judged_to=_parse(status.get("judgedTo")),
        paused_at=_parse(status.get("pausedAt")),
        pauses=tuple(Span(_read(s["start"]), _read(s["end"])) for s in status.get("pauses", ())),
        eras=tuple(Era(_read(e["since"]), dict(e.get("settings", {}))) for e in status.get("eras", ())),
        promoted_at=_parse(status.get("promotedAt")),
        rejected=tuple(
            Rejected(
                r["hash"],
                r.get("version", ""),
                _read(r["at"]),
                r.get("reason", ""),
                r.get("runId", ""),
            )
            for r in status.get("rejected", ())
        ),
        promoted=tuple(status.get("promoted", ())),
        acted=_parse_acted(status.get("acted")),
        frozen=dict(status.get("frozen", {})),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
    )


def _pods(state: Rollout) -> dict[str, Any]:
    """Return what the pods are sized for, where it is not the usual: all of stable's, none of another."""
    return _drop_none(
        {
            "room": None if state.room is Room.SURGE else state.room.value,
            "candidate": state.capacity or None,
            "fixed": state.fixed_pods,
            "stable": None if state.stable_capacity == 100 else state.stable_capacity,
            "previous": None if state.previous_capacity == 100 else state.previous_capacity,
        }
    )


def _acted(acted: Acted | None) -> dict[str, Any] | None:
    if acted is None:
        return None
    said = {"action": acted.action, "runId": acted.run_id, "wait": acted.wait}
    return _drop_none({**said, "by": acted.by or None, "approves": acted.approves or None})


def _parse_acted(value: Mapping[str, Any] | None) -> Acted | None:
    if not value:
        return None
    said = (value.get(key, "") for key in ("by", "approves"))
    return Acted(value["action"], value["runId"], value.get("wait"), *said)


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


def _read(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _parse(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
