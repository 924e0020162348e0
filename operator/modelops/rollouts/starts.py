"""How a run begins: what is wanted, whether it may start, and what it takes the place of."""

import hashlib
from dataclasses import replace
from datetime import datetime

from modelops.plan import Event, Reason
from modelops.rollouts.capacity import lowered, sized
from modelops.rollouts.clocks import is_settled
from modelops.rollouts.promotion import at_rest, idle, moved
from modelops.rollouts.rules import NO_POLICY, Rules
from modelops.rollouts.seen import Seen, Step
from modelops.rollouts.state import Awaits, Phase, Revision, Rollout, Room, rejects


def first(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Bring up the first version, or take over from a stable that is gone: there is nothing to protect."""
    if state.stable is not None and not _is_stable_lost(state, seen):
        return None
    if state.phase in (Phase.PROMOTING, Phase.BAKING):
        return None
    candidate = state.candidate
    if candidate is None or seen.desired is None or candidate.hash != seen.desired.hash:
        return None
    if seen.hold is not None or rejects(state, candidate.hash):
        return None
    if seen.candidate.ready == 0 or not is_settled(state, seen, now):
        return None
    message = f"{seen.service}: {candidate.version} serves"
    return Step(moved(state, candidate, now, "Serving", message), (Event("Normal", "Serving", message),))


def desire(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Follow the wanted revision: start, supersede, revert, or leave a rejected one alone."""
    desired = seen.desired
    if desired is None or state.is_leaving:
        return None
    wanted_is_stable = state.stable is not None and desired.hash == state.stable.hash
    if wanted_is_stable:
        return _back_to_stable(state, seen, now)
    if state.candidate is not None and desired.hash == state.candidate.hash:
        return None
    if rejects(state, desired.hash):
        return None
    if state.candidate is None:
        return started(state, desired, seen, now)
    is_shrunk = state.stable_capacity < 100 and state.room is not Room.RECREATE
    if _has_traffic(state, seen) or is_shrunk:
        message = f"{seen.service}: {desired.version} takes the place of {state.candidate.version}"
        return withdraw(state, seen, Phase.SUPERSEDING, "Superseded", message, now)
    return started(state, desired, seen, now)


def _has_traffic(state: Rollout, seen: Seen) -> bool:
    """Return whether the candidate gets, or may still get, requests."""
    if state.is_before_start or state.phase is Phase.STARTING:
        return bool(state.accepted)
    return bool(state.weight or state.mirror or state.is_matched) or not seen.route.is_clear


def _back_to_stable(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    if state.phase is Phase.ROLLED_BACK:
        return Step(at_rest(state, now, "Serving", f"{seen.service}: the served version is wanted again"))
    if state.candidate is None or state.phase is Phase.BAKING:
        return None
    message = f"{seen.service}: the served version is wanted again; {state.candidate.version} is withdrawn"
    return withdraw(state, seen, Phase.REVERTING, "Reverted", message, now)


def withdraw(state: Rollout, seen: Seen, phase: Phase, reason: str, message: str, now: datetime) -> Step:
    """Begin to take the candidate away: its traffic first (retreat.unwind ends it), and nobody's fault."""
    state = lowered(state, seen)
    state = replace(state, phase=phase, phase_at=now, paused_for=frozenset(), awaits=Awaits.GATES)
    return Step(replace(state, reason=reason, message=message), (Event("Normal", reason, message),))


def admit(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Wait for approval without pods; start when the gates open."""
    if state.candidate is None:
        return None
    hold = None if seen.waits_for_capacity else seen.hold
    if state.phase is Phase.STARTING:
        return _vacate(state, seen) if hold is None else Step(_awaiting(state, hold, now))
    if not state.is_before_start:
        return None
    if hold is None and _needs_approval(state, seen):
        hold = _asks(state.candidate, seen)
    if hold is None:
        return let_start(state, seen, now)
    if hold.message != state.message:
        return Step(_awaiting(state, hold, now))
    return None


def let_start(state: Rollout, seen: Seen, now: datetime) -> Step:
    """End the wait before the first pod."""
    assert state.candidate is not None
    message = f"{seen.service}: {state.candidate.version} starts"
    state = replace(state, phase=Phase.STARTING, awaits=Awaits.GATES, phase_at=now)
    state = replace(state, reason="Starting", message=message)
    return Step(state, (Event("Normal", "Starting", message),))


def run_id(revision: Revision, attempt: int) -> str:
    """Return the name of a run: the same for the same revision and attempt, whoever computes it."""
    text = f"{revision.hash}/{revision.digest}/{attempt}"
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def started(state: Rollout, desired: Revision, seen: Seen, now: datetime) -> Step:
    """Begin a run for *desired*: nothing of an older one is left but its name."""
    rules = seen.rules or NO_POLICY
    room = rules.room if state.stable is not None else Room.SURGE
    message = f"{seen.service}: {desired.version} starts"
    asks = rules.approves_start and state.stable is not None
    is_vacated = room is Room.RECREATE and state.stable_capacity == 0
    state = replace(
        idle(state),
        stable_capacity=0 if is_vacated else 100,
        awaits=Awaits.START if asks else Awaits.GATES,
        candidate=desired,
        run_id=run_id(desired, state.attempt),
        phase=Phase.STARTING,
        phase_at=now,
        started_at=now,
        ready_at=None,
        step=-1,
        is_overruled=False,
        room=room,
        wait=0,
        judged_to=None,
        reason="Starting",
        message=message,
    )
    state = _sized(state, rules)
    hold = seen.desired_hold or (_asks(desired, seen) if asks else None)
    event = Event("Normal", "Started", message)
    return Step(state if hold is None else _awaiting(state, hold, now), (event,))


def is_known(state: Rollout, rules: Rules, revision: Revision) -> bool:
    """Return whether *revision* served before, inside the rollback window."""
    return rules.rollback_window > 0 and revision.hash in state.promoted[-(rules.rollback_window + 1) :]


def _sized(state: Rollout, rules: Rules) -> Rollout:
    """Return *state* with its candidate's pods sized for the first station; none before stable is gone."""
    if state.room is Room.RECREATE:
        return replace(state, capacity=0)
    assert state.candidate is not None
    if state.stable is None or rules.first is None or is_known(state, rules, state.candidate):
        return replace(state, capacity=100)
    return sized(state, rules.stage(rules.first))


def _vacate(state: Rollout, seen: Seen) -> Step | None:
    """Announce the downtime and let stable's pods go; the candidate's come when the last one is gone."""
    if state.room is not Room.RECREATE or state.stable is None or state.capacity or seen.waits_for_capacity:
        return None
    assert state.candidate is not None
    if state.stable_capacity:
        message = (
            f"{seen.service}: capacity Recreate: {state.stable.version} ends before "
            f"{state.candidate.version} starts; requests fail until it is ready"
        )
        state = replace(state, stable_capacity=0, reason="Downtime", message=message)
        return Step(state, (Event("Warning", "Downtime", message),))
    if seen.stable.live:
        return None
    return Step(replace(state, capacity=100))


def _is_stable_lost(state: Rollout, seen: Seen) -> bool:
    """Return whether stable has no ready pod, though it should."""
    return state.stable is not None and seen.stable.ready == 0 and seen.candidate.ready > 0


def _asks(revision: Revision, seen: Seen) -> Reason:
    return Reason(
        "ApprovalBeforeStart",
        f"{seen.service}: {revision.version} needs approval to start, found none; "
        f"run kubectl modelops rollout promote {seen.service}",
    )


def _needs_approval(state: Rollout, seen: Seen) -> bool:
    """Return whether a person still has to let the run start; a policy that is away lets nothing start."""
    return state.awaits is Awaits.START and (seen.rules is None or seen.rules.approves_start)


def _awaiting(state: Rollout, hold: Reason, now: datetime) -> Rollout:
    """Wait without pods; stable has all of its own."""
    phase_at = state.phase_at if state.phase is Phase.AWAITING_APPROVAL else now
    capacity = 0 if state.room is Room.RECREATE else state.capacity
    state = replace(state, phase=Phase.AWAITING_APPROVAL, phase_at=phase_at, ready_at=None)
    state = replace(state, stable_capacity=100, capacity=capacity)
    return replace(state, reason=hold.code, message=hold.message)
