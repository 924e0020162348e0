"""The way to 100 %: ask for approval, take everything, move the stable pointer, let the old version go."""

from dataclasses import replace
from datetime import datetime

from modelops.plan import Event
from modelops.rollouts.clocks import ZERO, left
from modelops.rollouts.rules import NO_POLICY, Rules
from modelops.rollouts.seen import Seen, Step
from modelops.rollouts.state import KEEP_REJECTED, Awaits, Phase, Revision, Rollout


def finish(state: Rollout, seen: Seen, rules: Rules, now: datetime, why: str, *, asks: bool = False) -> Step:
    """Promote, or wait for a person who does (approval.beforePromotion, a doubtful evaluation, or *asks*)."""
    assert state.candidate is not None
    found = state.evaluation
    is_doubted = found is not None and found.grade == "Warn"
    if found is not None:
        why = f"{why}; {found.message.removeprefix(f'{seen.service}: ')}"
    if rules.approves_promotion or asks or is_doubted:
        message = (
            f"{seen.service}: {why}; {state.candidate.version} needs approval to take all requests, "
            f"found none; run kubectl modelops rollout promote {seen.service}"
        )
        state = replace(state, phase=Phase.AWAITING_APPROVAL, awaits=Awaits.PROMOTION, phase_at=now)
        state = replace(state, reason="ApprovalBeforePromotion", message=message)
        return Step(state, (Event("Normal", "AwaitingApproval", message),))
    return promote(state, "Promoted", f"{seen.service}: {why}, promoted", now)


def promote(state: Rollout, reason: str, message: str, now: datetime) -> Step:
    """Begin to give everything to the candidate: its pods first."""
    state = replace(state, phase=Phase.PROMOTING, awaits=Awaits.GATES, phase_at=now, capacity=100)
    state = replace(state, fixed_pods=None, paused_for=frozenset(), reason=reason, message=message)
    return Step(state, (Event("Normal", reason, message),))


def take_over(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Move the stable pointer when the accepted route sends everything to the candidate."""
    if state.phase is not Phase.PROMOTING or state.candidate is None:
        return None
    if seen.candidate.ready < max(1, seen.candidate.wanted):
        return None
    if state.weight != 100:
        if seen.rules is not None and seen.rules.is_suspended:
            return None
        return Step(replace(state, weight=100, mirror=0, is_matched=False))
    if seen.route.candidate_weight != 100:
        return None
    return Step(moved(state, state.candidate, now, state.reason, state.message))


def bake(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Let the version that served before go, once the new one is accepted and the delay is over."""
    if state.phase is not Phase.BAKING:
        return None
    rules = seen.rules or NO_POLICY
    is_served = state.stable is not None and seen.route.stable_hash == state.stable.hash
    if not is_served or left(state.phase_at, rules.bake, now) > ZERO:
        return None
    return Step(at_rest(state, now, state.reason, state.message))


def moved(state: Rollout, to: Revision, now: datetime, reason: str, message: str) -> Rollout:
    """Move the stable pointer: one write, no restart."""
    promoted = (*(h for h in state.promoted if h != to.hash), to.hash)[-KEEP_REJECTED:]
    phase = Phase.BAKING if state.stable is not None and state.stable.hash != to.hash else Phase.STABLE
    is_baking = phase is Phase.BAKING
    state = replace(
        idle(state),
        previous=state.stable if is_baking else None,
        previous_capacity=state.stable_capacity if is_baking else 100,
        promoted_at=now,
        promoted=promoted,
        frozen=state.frozen,
        eras=state.eras,
        pauses=state.pauses,
    )
    return replace(state, stable=to, phase=phase, phase_at=now, reason=reason, message=message)


def at_rest(state: Rollout, now: datetime, reason: str, message: str) -> Rollout:
    """Return the state in which only stable is left."""
    state = replace(idle(state), phase=Phase.STABLE, phase_at=now)
    return replace(state, reason=reason, message=message)


def idle(state: Rollout) -> Rollout:
    """Return *state* without anything of a run but its name."""
    return replace(
        state,
        candidate=None,
        previous=None,
        awaits=Awaits.GATES,
        paused_for=frozenset(),
        paused_at=None,
        pauses=(),
        eras=(),
        evaluation=None,
        frozen={},
        step=0,
        step_at=None,
        passed=frozenset(),
        weight=0,
        mirror=0,
        is_matched=False,
        is_misrouted=False,
        capacity=0,
        fixed_pods=None,
        stable_capacity=100,
        previous_capacity=100,
        unready_at=None,
        waiting_at=None,
        unaccepted_at=None,
    )
