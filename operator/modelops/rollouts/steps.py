"""From step to step, on the judge's word."""

from dataclasses import replace
from datetime import datetime

from modelops.plan import Event
from modelops.rollouts.capacity import candidate_pods, sized, stable_pods
from modelops.rollouts.clocks import ZERO, is_settled, left
from modelops.rollouts.promotion import finish
from modelops.rollouts.rules import Rules, Stage
from modelops.rollouts.seen import HOLD_AT, Judgement, Seen, Step, agrees
from modelops.rollouts.starts import is_known
from modelops.rollouts.state import Phase, Rollout, Room

STEP_BACK_AT = 20.0


def climb(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Take the first step after warm-up, and every next one on the judge's word."""
    rules = seen.rules
    if rules is None or rules.is_suspended or state.candidate is None or seen.hold is not None:
        return None
    if state.phase is Phase.STARTING:
        return _begin(state, seen, rules, now)
    if state.phase is not Phase.PROGRESSING or not agrees(state, seen.route):
        return None
    if seen.candidate.ready < seen.candidate.wanted:
        return None
    stage = rules.stage(state.step)
    if state.step_at is None or left(state.step_at, stage.dwell, now) > ZERO:
        return None
    if not rules.is_analysed:
        return (
            None if _strays(state, seen) else _next(state, seen, rules, now, "ready; no analysis by policy")
        )
    if stage.is_preview:
        return _previewed(state, seen, rules, now)
    return _judged(state, seen, rules, now)


def later(state: Rollout, rules: Rules, replicas: int) -> int | None:
    """Return the index of the next step; None: promotion comes next.

    Where numbers of pods are the shares, steps that do not change them are merged.
    """
    for index in range(state.step + 1, len(rules.steps)):
        if state.room is not Room.SPLIT or _counts(state, rules, index, replicas) != _counts(
            state, rules, state.step, replicas
        ):
            return index
    return None


def _counts(state: Rollout, rules: Rules, index: int, replicas: int) -> tuple[int, int]:
    stage = rules.stage(index)
    there = replace(sized(state, stage), stable_capacity=100 - stage.weight)
    return candidate_pods(there, replicas), stable_pods(there, replicas)


def _begin(state: Rollout, seen: Seen, rules: Rules, now: datetime) -> Step | None:
    candidate = state.candidate
    if state.stable is None or state.paused_for or not is_settled(state, seen, now):
        return None
    assert candidate is not None
    if rules.first is None or is_known(state, rules, candidate):
        why = "no steps by policy" if rules.first is None else "served before, inside the rollback window"
        return finish(state, seen, rules, now, f"{candidate.version} takes over: {why}")
    if state.ready_at is None or left(state.ready_at, rules.warmup, now) > ZERO:
        return None
    return _at_step(state, seen, rules, rules.first, now, "is warm")


def _previewed(state: Rollout, seen: Seen, rules: Rules, now: datetime) -> Step | None:
    """Go on from a preview: nobody's requests judged it, so only harm and missing metrics hold it."""
    judged = seen.judgement
    if seen.metrics_away_since is not None:
        return None
    if judged is not None and (judged.verdict == "Rollback" or judged.robust >= HOLD_AT):
        return None
    return _next(state, seen, rules, now, "its preview shows no harm")


def _judged(state: Rollout, seen: Seen, rules: Rules, now: datetime) -> Step | None:
    judged = seen.judgement
    if judged is None or judged.window_end is None or judged.window_end == state.judged_to:
        return None
    if judged.verdict == "Rollback":
        return _hold(state, seen, judged)
    is_proven = judged.verdict == "Promote" and not _strays(state, seen)
    if is_proven and later(state, rules, seen.replicas) is None:
        state = replace(state, judged_to=judged.window_end)
        return finish(state, seen, rules, now, judged.message)
    if judged.verdict != "Continue" or judged.reason == "BaselineUnhealthy":
        return None
    if state.step_at is not None and judged.window_end <= state.step_at:
        return None
    seen_window = replace(state, judged_to=judged.window_end)
    if judged.robust >= STEP_BACK_AT and state.step > 0:
        return _at_step(seen_window, seen, rules, state.step - 1, now, "shows harm, one step back")
    if judged.robust >= HOLD_AT or not judged.has_canary_traffic or _strays(state, seen):
        return None
    if rules.stage(state.step).is_final:
        return finish(replace(seen_window, mirror=0), seen, rules, now, "its mirrored run is over", asks=True)
    if later(state, rules, seen.replicas) is None:
        return None
    return _next(seen_window, seen, rules, now, judged.message)


def _strays(state: Rollout, seen: Seen) -> bool:
    """Return whether requests go another way than the step says, so that nothing rests on it."""
    return state.is_misrouted or seen.is_doubted


def _hold(state: Rollout, seen: Seen, judged: Judgement) -> Step | None:
    """Stay at the weight with a regression that the policy does not roll back, and say so once."""
    if state.reason == "RegressionHeld":
        return None
    message = f"{seen.service}: {judged.message}; held at {state.weight} % by onRegression: Hold"
    state = replace(state, reason="RegressionHeld", message=message)
    return Step(state, (Event("Warning", "RegressionHeld", message),))


def _next(state: Rollout, seen: Seen, rules: Rules, now: datetime, why: str) -> Step:
    index = later(state, rules, seen.replicas)
    if index is None:
        return finish(state, seen, rules, now, why)
    return _at_step(state, seen, rules, index, now, why)


def _at_step(state: Rollout, seen: Seen, rules: Rules, index: int, now: datetime, why: str) -> Step:
    """Ask for the step's weight once the pods for it are ready, on both sides."""
    stage = rules.stage(index)
    ahead = sized(state, stage)
    if seen.candidate.ready < candidate_pods(ahead, seen.replicas):
        return Step(ahead)
    if stage.weight < state.weight:
        # The candidate keeps its pods until the gateway has accepted the lower weight.
        ahead = replace(state, stable_capacity=max(state.stable_capacity, 100 - stage.weight))
        shrinks = state.room is not Room.SURGE
        if shrinks and seen.stable.ready < stable_pods(ahead, seen.replicas):
            return Step(ahead)
    assert state.candidate is not None
    message = f"{seen.service}: {state.candidate.version} {_place(stage)}: {why}"
    state = replace(
        ahead,
        phase=Phase.PROGRESSING,
        phase_at=now if state.phase is not Phase.PROGRESSING else state.phase_at,
        step=index,
        step_at=None,
        passed=frozenset(),
        weight=stage.weight,
        mirror=stage.mirror,
        is_matched=stage.is_matched,
        reason="Progressing",
        message=message,
    )
    return Step(state, (Event("Normal", "WeightChanged", message),))


def _place(stage: Stage) -> str:
    """Return in words what the candidate gets at *stage*."""
    if stage.mirror:
        return f"gets copies of {stage.mirror} % of the requests"
    if stage.is_matched:
        return "gets the requests that match"
    return "can be previewed" if stage.is_preview else f"at {stage.weight} %"
