"""What people ask of a run, each thing once.

An action names its run.  It may name the wait it is for as well (``status.rollout.wait``): a run counts how
often it began to wait, so that a second Resume is another action than the first, and one that comes late
for a wait that is over does nothing to the next.

Where the policy asks for approval, a Promote counts only as one: by somebody of whom the API server says that
they hold the verb approve on the model, while its policies are proven to be in force.
"""

from dataclasses import replace
from datetime import datetime

from modelops.plan import Event, Reason
from modelops.rollouts.pauses import pause, resumed
from modelops.rollouts.promotion import promote
from modelops.rollouts.retreat import FORWARD, roll_back, switch_back
from modelops.rollouts.seen import Seen, Step
from modelops.rollouts.starts import let_start
from modelops.rollouts.state import Acted, Awaits, Pause, Phase, Rollout

OF_A_WAIT = frozenset({"Promote", "Resume"})
GATE_OPEN = "GateNotEnforced"
"""Why an approval is refused for good: anybody may have written it."""
ENDED = (Phase.STABLE, Phase.ROLLED_BACK)


def act(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Carry out the action of a person, once, and only for the run and the wait it names."""
    action = seen.action
    if action is None or action == state.acted:
        return None
    if action.action == "Retry":
        return _retry(state, action, now)
    if action.run_id != state.run_id or state.phase in ENDED:
        return None
    if action.action in OF_A_WAIT and action.wait not in (None, state.wait):
        return None
    acted = replace(state, acted=action)
    match action.action:
        case "Abort":
            return _abort(acted, seen, now)
        case "Pause":
            return pause(acted, Pause.USER, f"{seen.service}: paused by a person", now)
        case "Resume":
            return _resume(acted, seen, now)
        case "Promote":
            return _approve(acted, seen, now)
        case _:
            return Step(acted)


def _abort(state: Rollout, seen: Seen, now: datetime) -> Step:
    message = f"{seen.service}: aborted by a person"
    if state.phase is Phase.BAKING:
        return switch_back(state, seen, "Aborted", message, now) or Step(state)
    if state.phase in FORWARD and state.candidate is not None:
        return roll_back(state, seen, "Aborted", message, now)
    return Step(state)  # it is on its way back already


def _resume(state: Rollout, seen: Seen, now: datetime) -> Step:
    overruled = state.is_overruled or Pause.INCONCLUSIVE in state.paused_for
    passed = state.passed | (state.paused_for & {Pause.STEP})
    paused = state.paused_for - {Pause.USER, Pause.STEP, Pause.INCONCLUSIVE}
    state = replace(state, paused_for=paused, passed=passed, is_overruled=overruled)
    return Step(resumed(state, seen, now))


def _approve(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Give the approval that the run waits for; without such a wait, give everything to the candidate.

    Nobody promotes past a closed gate, or to pods that are not ready: the action waits for them.
    """
    if seen.hold is not None and not seen.waits_for_capacity:
        return None
    if seen.approval_of and not _is_approval(state.acted, seen):
        return None
    if seen.approval_of and seen.distrust is not None:
        return _disbelieved(state, seen.distrust)
    if state.is_before_start:
        return let_start(state, seen, now) if state.awaits is Awaits.START else Step(state)
    if Pause.APPROVAL in state.paused_for:
        passed, paused = state.passed | {Pause.APPROVAL}, state.paused_for - {Pause.APPROVAL}
        return Step(resumed(replace(state, passed=passed, paused_for=paused), seen, now))
    is_open = state.phase is Phase.STARTING or state.is_at_step
    if state.stable is None or not is_open:
        return Step(state)
    if seen.candidate.ready == 0:
        return None
    return promote(state, "PromotedByPerson", f"{seen.service}: promoted by a person", now)


def _is_approval(action: Acted | None, seen: Seen) -> bool:
    return action is not None and bool(action.by) and action.approves == seen.approval_of


def _disbelieved(state: Rollout, why: Reason) -> Step | None:
    """Take no approval that the gate may not have checked; where it is open, not later on either.

    The wait gets another number, so that the same can be asked again once the gate is in force.
    """
    if why.code != GATE_OPEN:
        return None
    message = f"{why.message}; then promote again"
    return Step(replace(state, wait=state.wait + 1), (Event("Warning", "ApprovalNotBelieved", message),))


def _retry(state: Rollout, action: Acted, now: datetime) -> Step | None:
    """Forget that the run was rolled back; what is wanted then starts again, with fresh evidence."""
    known = next((r for r in state.rejected if r.run_id == action.run_id), None)
    if known is None:
        return None
    left = tuple(r for r in state.rejected if r.hash != known.hash)
    has_ended = state.phase is Phase.ROLLED_BACK
    state = replace(state, rejected=left, acted=action, attempt=state.attempt + 1)
    state = replace(state, phase=Phase.STABLE, phase_at=now) if has_ended else state
    return Step(state, (Event("Normal", "Retried", f"run {action.run_id} is tried again"),))
