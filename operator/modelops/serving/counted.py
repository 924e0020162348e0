"""What was counted at a step: the share of the requests that really reached the candidate."""

from dataclasses import dataclass

from modelops.plan import Reason
from modelops.rollouts.state import Rollout
from modelops.rollouts.traffic import measured_percent, strays
from modelops.serving import demand
from modelops.serving.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Counted:
    """The requests of both roles since the step began."""

    percent: float
    wrong: Reason | None = None
    """Why they do not go with the weight; None: they do, or they need not."""
    is_doubted: bool = False
    """Whether they seem not to, in a window that may still have requests of the step before."""


def counted(seen: Snapshot, state: Rollout) -> Counted | None:
    """Return the candidate's share of the requests at this step; None without a step or without requests.

    Requests are counted when they end, so the step's first window may have the share of the step before: it
    counts until there is a later one, and proves nothing.  Numbers of pods, and clients that stay with their
    version, make other shares than the weight; that is no fault.
    """
    if not state.is_at_step or not state.weight or state.step_at is None:
        return None
    since = state.step_at.timestamp()
    of_step = [w for w in seen.measured.windows if w.start >= since and w.stable and w.canary]
    later = [w for w in of_step if 2 * w.start - w.end >= since]
    windows = later or of_step
    canary = sum(w.canary.requests or 0 for w in windows if w.canary)
    stable = sum(w.stable.requests or 0 for w in windows if w.stable)
    percent = measured_percent(canary, stable)
    if percent is None:
        return None
    is_pinned = seen.policy is not None and seen.policy.affinity is not None
    is_free = demand.by_pods(seen) or is_pinned
    if is_free or not strays(canary, stable, state.weight):
        return Counted(round(percent, 1))
    if not later:
        return Counted(round(percent, 1), is_doubted=True)
    message = (
        f"{seen.name}: needs {state.weight} % of the requests at the new version, counted {percent:.3g} % of "
        f"{canary + stable}; look for kept connections, pinned clients or retries at the gateway; the step "
        "is held until it is right"
    )
    return Counted(round(percent, 1), Reason("TrafficSplitMismatch", message))
