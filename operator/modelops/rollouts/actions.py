"""What people ask of a run, each thing once."""

from dataclasses import replace
from datetime import datetime

from modelops.plan import Event
from modelops.rollouts.pauses import pause, resumed
from modelops.rollouts.promotion import promote
from modelops.rollouts.retreat import roll_back
from modelops.rollouts.seen import Seen, Step
from modelops.rollouts.state import Acted, Pause, Phase, Rollout


def act(state: Rollout, seen: Seen, now: datetime) -> Step | None:
    """Carry out the action of a person, once, and only for the run it names."""
    action = seen.action
    if action is None or action == state.acted:
        return None
    if action.action == "Retry":
        return _retry(state, action, now)
    if action.run_id != state.run_id or state.phase in (Phase.STABLE, Phase.ROLLED_BACK):
        return None
    state = replace(state, acted=action)
    match action.action:
        case "Abort":
            return roll_back(state, "Aborted", f"{seen.service}: aborted by a person", now)
        case "Pause":
            return pause(state, Pause.USER, f"{seen.service}: paused by a person", now)
        case "Resume":
            overruled = state.is_overruled or Pause.INCONCLUSIVE in state.paused_for
            paused = state.paused_for - {Pause.USER, Pause.STEP, Pause.INCONCLUSIVE}
            state = replace(state, paused_for=paused, resumed=state.step, is_overruled=overruled)
            return Step(resumed(state, now))
        case "Promote":
            if seen.candidate.ready == 0 or seen.hold is not None:
                return None  # nobody promotes past a closed gate
            return promote(state, "PromotedByPerson", f"{seen.service}: promoted by a person", now)
        case _:
            return Step(state)


def _retry(state: Rollout, action: Acted, now: datetime) -> Step | None:
    known = next((r for r in state.rejected if r.run_id == action.run_id), None)
    if known is None:
        return None
    left = tuple(r for r in state.rejected if r.hash != known.hash)
    phase = Phase.STABLE if state.phase is Phase.ROLLED_BACK else state.phase
    state = replace(state, rejected=left, acted=action, attempt=state.attempt + 1, phase=phase, phase_at=now)
    return Step(state, (Event("Normal", "Retried", f"run {action.run_id} is tried again"),))
