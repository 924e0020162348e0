"""The way back: harm, rollback, and taking traffic and pods away in that order."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from modelops.plan import Event, Reason
from modelops.rollouts.capacity import lowered
from modelops.rollouts.clocks import ZERO, left, seconds
from modelops.rollouts.promotion import at_rest, idle
from modelops.rollouts.rules import NO_POLICY, Rules
from modelops.rollouts.seen import Pods, Seen, Step
from modelops.rollouts.starts import started
from modelops.rollouts.state import KEEP_REJECTED, Awaits, Phase, Rejected, Revision, Rollout, Room, rejects

LONGEST_REASON = 1024
"""Letters of a rejection's sentence that status keeps."""
FORWARD = (Phase.STARTING, Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING, Phase.AWAITING_APPROVAL)


def harm(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Roll back on proof of harm, too many restarts, or a candidate that never gets ready.

    While the version that served before is kept warm, harm switches back to it.
    """
    rules = seen.rules or NO_POLICY
    if state.phase is Phase.BAKING and state.stable is not None:
        found = next(_harms_in_bake(state, seen, rules), None)
        return None if found is None else switch_back(state, seen, found.code, found.message, now)
    if state.candidate is None or state.stable is None:
        return None
    if state.phase not in FORWARD or state.is_before_start:
        return None
    found = next(_harms(state, seen, rules, now), None)
    return None if found is None else roll_back(state, seen, found.code, f"{found.message}; rolled back", now)


def unwind(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Finish what leads away from the candidate: traffic first and accepted, pods after."""
    if not state.is_leaving:
        return None
    less = lowered(state, seen)
    if less != state:
        return Step(less)
    if state.weight or not seen.route.is_clear:
        return None  # an older route may still run: the gateway has not answered for the last one
    if state.phase is Phase.ROLLING_BACK:
        return _rolled_back(state, seen, now)
    if seen.stable.ready < seen.stable.wanted and state.room is not Room.SURGE:
        return None
    if state.phase is Phase.SUPERSEDING and seen.desired is not None:
        is_stable = state.stable is not None and seen.desired.hash == state.stable.hash
        if not is_stable and not rejects(state, seen.desired.hash):
            return started(state, seen.desired, seen, now)
    return Step(at_rest(state, now, "Serving", f"{seen.service}: the served version stays"))


def roll_back(state: Rollout, seen: Seen, reason: str, message: str, now: datetime) -> Step:
    """Begin to go back to stable, and remember the revision as bad."""
    assert state.candidate is not None
    rejected = _marked(state, state.candidate, message, now)
    state = replace(lowered(state, seen), rejected=rejected)
    state = replace(state, phase=Phase.ROLLING_BACK, phase_at=now, awaits=Awaits.GATES)
    state = replace(state, paused_for=frozenset(), reason=reason, message=message)
    return Step(state, (Event("Warning", "Aborted" if reason == "Aborted" else "RolledBack", message),))


def switch_back(state: Rollout, seen: Seen, reason: str, message: str, now: datetime) -> Step | None:
    """Make the version that served before stable again, in one write; None: its pods are not there."""
    before, bad = state.previous, state.stable
    if before is None or bad is None or seen.previous.ready == 0:
        return None
    kept = replace(
        idle(state),
        stable=before,
        candidate=bad,
        weight=100,
        capacity=100,
        stable_capacity=state.previous_capacity,
        promoted=tuple(h for h in state.promoted if h != bad.hash),
        promoted_at=now,
    )
    turned = replace(seen, stable=seen.previous, candidate=seen.stable)
    return roll_back(kept, turned, reason, f"{message}; switched back to {before.version}", now)


def _harms(state: Rollout, seen: Seen, rules: Rules, now: datetime) -> Iterator[Reason]:
    """Yield what speaks for going back, the surest first."""
    assert state.candidate is not None
    version = state.candidate.version
    yield from _judged_harm(seen, rules)
    yield from _judged_answers(state, seen, rules)
    yield from _restarts(seen.service, version, seen.candidate, rules)
    if state.unready_at is not None and now - state.unready_at >= rules.progress_deadline:
        yield Reason(
            "DeadlineExceeded",
            f"{seen.service}: {version} needs {seen.candidate.wanted} ready pods within "
            f"{seconds(rules.progress_deadline)}, found {seen.candidate.ready}",
        )
    if state.waiting_at is not None and now - state.waiting_at >= rules.capacity_deadline:
        yield Reason(
            "CapacityDeadlineExceeded",
            f"{seen.service}: {version} needs room for {seen.candidate.wanted} pods within "
            f"{seconds(rules.capacity_deadline)}, found it for "
            f"{max(0, seen.candidate.wanted - seen.candidate.without_room)}",
        )


def _harms_in_bake(state: Rollout, seen: Seen, rules: Rules) -> Iterator[Reason]:
    """Yield what speaks for switching back while the old pods are warm."""
    assert state.stable is not None
    version = state.stable.version
    yield from _judged_harm(seen, rules)
    yield from _restarts(seen.service, version, seen.stable, rules)
    if seen.stable.ready == 0:
        yield Reason(
            "NoReadyPods", f"{seen.service}: {version} needs a ready pod, found 0 of {seen.stable.wanted}"
        )


def _judged_harm(seen: Seen, rules: Rules) -> Iterator[Reason]:
    judged = seen.judgement
    decides = rules.is_analysed and rules.rolls_back and not rules.is_suspended
    if judged is not None and judged.verdict == "Rollback" and decides:
        yield Reason(judged.reason, f"{seen.service}: {judged.message}")


def _judged_answers(state: Rollout, seen: Seen, rules: Rules) -> Iterator[Reason]:
    """Yield that the evaluation which the policy demands has failed."""
    found, decides = state.evaluation, rules.rolls_back and not rules.is_suspended
    if found is not None and found.grade == "Fail" and seen.evaluation is not None and decides:
        yield Reason("EvaluationFailed", found.message)


def _restarts(service: str, version: str, pods: Pods, rules: Rules) -> Iterator[Reason]:
    if pods.restarts > rules.restart_limit:
        yield Reason(
            "RestartLimit",
            f"{service}: {version} needs at most {rules.restart_limit} container restarts, "
            f"found {pods.restarts}",
        )


def _rolled_back(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """End the rollback when the delay is over; a Retry in the delay finds the pods still there."""
    candidate = state.candidate
    assert candidate is not None
    is_retried = seen.desired is not None and seen.desired.hash == candidate.hash
    if is_retried and not rejects(state, candidate.hash):
        return started(state, candidate, seen, now)
    delay = (seen.rules or NO_POLICY).abort_scale_down_delay
    if state.room is not Room.RECREATE and left(state.phase_at, delay, now) > ZERO:
        return None
    ended = replace(idle(state), phase=Phase.ROLLED_BACK, phase_at=now)
    return Step(ended)


def _marked(state: Rollout, bad: Revision, message: str, now: datetime) -> tuple[Rejected, ...]:
    mark = Rejected(bad.hash, bad.version, now, message[:LONGEST_REASON], state.run_id)
    return (*(r for r in state.rejected if r.hash != mark.hash), mark)[-KEEP_REJECTED:]
