"""From step to step, on the judge's word."""

from dataclasses import replace
from datetime import datetime, timedelta

from modelops.plan import Event
from modelops.rollouts.clocks import is_settled, left
from modelops.rollouts.promotion import promote
from modelops.rollouts.rules import Rules
from modelops.rollouts.seen import Seen, Step
from modelops.rollouts.state import Phase, Rollout
from modelops.rollouts.traffic import candidate_replicas

HOLD_AT = 4.0


STEP_BACK_AT = 20.0


def climb(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Take the first step after warm-up, and every next one on the judge's word."""
    rules = seen.rules
    if rules is None or rules.is_suspended or state.candidate is None or seen.hold is not None:
        return None
    if state.phase is Phase.STARTING:
        return _begin(state, seen, rules, now)
    if state.phase is not Phase.PROGRESSING:
        return None
    if seen.candidate.ready < seen.candidate.wanted or state.accepted != state.weight:
        return None
    if state.step_at is None or left(state.step_at, rules.dwell(state.step), now) > timedelta(0):
        return None
    if not rules.is_analysed:
        return _next(state, seen, rules, now, "ready; no analysis by policy")
    return _judged(state, seen, rules, now)


def _begin(state: Rollout, seen: Seen, rules: Rules, now: datetime) -> Step | None:
    if not is_settled(state, seen, now):
        return None
    if state.stable is None:
        return None
    candidate = state.candidate
    assert candidate is not None
    recent = state.promoted[-(rules.rollback_window + 1) :] if rules.rollback_window else ()
    if not rules.steps or candidate.hash in recent:
        why = "no steps by policy" if not rules.steps else "served before, inside the rollback window"
        return promote(state, "Promoted", f"{seen.service}: {candidate.version} takes over: {why}", now)
    if state.ready_at is None or left(state.ready_at, rules.warmup, now) > timedelta(0):
        return None
    return at_step(state, seen, rules, 0, now, "is warm")


def _judged(state: Rollout, seen: Seen, rules: Rules, now: datetime) -> Step | None:
    judged = seen.judgement
    if judged is None or judged.window_end is None or judged.window_end == state.judged_to:
        return None
    at_last = state.step >= len(rules.steps) - 1  # beyond: the policy lost steps in mid-run
    if judged.verdict == "Promote" and at_last:
        state = replace(state, judged_to=judged.window_end)
        return promote(state, "Promoted", f"{seen.service}: {judged.message}, promoted", now)
    if judged.verdict != "Continue" or judged.reason == "BaselineUnhealthy":
        return None
    if state.step_at is not None and judged.window_end <= state.step_at:
        return None
    if judged.robust >= STEP_BACK_AT and state.step > 0:
        state = replace(state, judged_to=judged.window_end)
        return at_step(state, seen, rules, state.step - 1, now, "shows harm, one step back")
    if judged.robust >= HOLD_AT or not judged.has_canary_traffic:
        return None
    if at_last:
        return None
    return _next(replace(state, judged_to=judged.window_end), seen, rules, now, judged.message)


def _next(state: Rollout, seen: Seen, rules: Rules, now: datetime, why: str) -> Step:
    if state.step >= len(rules.steps) - 1:
        return promote(state, "Promoted", f"{seen.service}: {why}, promoted", now)
    return at_step(state, seen, rules, state.step + 1, now, why)


def at_step(state: Rollout, seen: Seen, rules: Rules, index: int, now: datetime, why: str) -> Step:
    weight = rules.steps[index]
    assert state.candidate is not None
    if seen.candidate.ready < candidate_replicas(seen.replicas, weight):
        return Step(replace(state, capacity=weight))
    message = f"{seen.service}: {state.candidate.version} at {weight} %: {why}"
    state = replace(
        state,
        phase=Phase.PROGRESSING,
        phase_at=now if state.phase is not Phase.PROGRESSING else state.phase_at,
        step=index,
        step_at=None,
        weight=weight,
        capacity=weight,
        reason="Progressing",
        message=message,
    )
    return Step(state, (Event("Normal", "WeightChanged", message),))
