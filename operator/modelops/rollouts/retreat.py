"""The way back: harm, rollback, and taking traffic and pods away in that order."""

from dataclasses import replace
from datetime import datetime, timedelta

from modelops.plan import Event
from modelops.rollouts.clocks import left, seconds
from modelops.rollouts.promotion import at_rest
from modelops.rollouts.rules import NO_POLICY
from modelops.rollouts.seen import Seen, Step
from modelops.rollouts.starts import started
from modelops.rollouts.state import KEEP_REJECTED, Phase, Rejected, Rollout, rejects

LONGEST_REASON = 1024
"""Letters of a rejection's sentence that status keeps."""


def harm(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Roll back on proof of harm, too many restarts, or a candidate that never gets ready."""
    if state.candidate is None or state.stable is None:
        return None
    if state.phase not in (Phase.STARTING, Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING):
        return None
    rules = seen.rules or NO_POLICY
    judged = seen.judgement
    is_harmful = judged is not None and judged.verdict == "Rollback"
    if judged is not None and is_harmful and rules.is_analysed and rules.rolls_back:
        return roll_back(state, judged.reason, f"{seen.service}: {judged.message}, rolled back", now)
    if seen.candidate.restarts > rules.restart_limit:
        return roll_back(
            state,
            "RestartLimit",
            f"{seen.service}: {state.candidate.version} needs at most {rules.restart_limit} container "
            f"restarts, found {seen.candidate.restarts}; rolled back",
            now,
        )
    if state.unready_at is not None and now - state.unready_at >= rules.progress_deadline:
        return roll_back(
            state,
            "DeadlineExceeded",
            f"{seen.service}: {state.candidate.version} needs {seen.candidate.wanted} ready pods within "
            f"{seconds(rules.progress_deadline)}, found {seen.candidate.ready}; rolled back",
            now,
        )
    return None


def unwind(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Finish what leads away from the candidate: traffic first and accepted, pods after."""
    if state.phase not in (Phase.ROLLING_BACK, Phase.REVERTING, Phase.SUPERSEDING):
        return None
    if state.accepted != 0:
        return None  # None: the gateway has not answered, so traffic may still go there
    rules = seen.rules or NO_POLICY
    if state.phase is Phase.ROLLING_BACK:
        if left(state.phase_at, rules.abort_scale_down_delay, now) > timedelta(0):
            return None
        return Step(replace(state, phase=Phase.ROLLED_BACK, phase_at=now, candidate=None, unready_at=None))
    if state.phase is Phase.SUPERSEDING and seen.desired is not None:
        is_stable = state.stable is not None and seen.desired.hash == state.stable.hash
        if not is_stable and not rejects(state, seen.desired.hash):
            return Step(started(state, seen.desired, seen, now))
    return Step(at_rest(state, now, "Serving", f"{seen.service}: the served version stays"))


def roll_back(state: Rollout, reason: str, message: str, now: datetime) -> Step:
    assert state.candidate is not None
    mark = Rejected(
        state.candidate.hash, state.candidate.version, now, message[:LONGEST_REASON], state.run_id
    )
    rejected = (*(r for r in state.rejected if r.hash != mark.hash), mark)[-KEEP_REJECTED:]
    state = replace(
        state,
        phase=Phase.ROLLING_BACK,
        phase_at=now,
        weight=0,
        rejected=rejected,
        paused_for=frozenset(),
        reason=reason,
        message=message,
    )
    return Step(state, (Event("Warning", "RolledBack", message),))
