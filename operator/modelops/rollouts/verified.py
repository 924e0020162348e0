"""What is believed of the route: when its gateway says little, and when the requests say otherwise."""

from dataclasses import replace
from datetime import datetime

from modelops.plan import Event
from modelops.rollouts.clocks import ZERO, left
from modelops.rollouts.rules import NO_POLICY
from modelops.rollouts.seen import Seen
from modelops.rollouts.state import Rollout


def trusted(state: Rollout, seen: Seen, now: datetime) -> tuple[Rollout, Seen, tuple[Event, ...]]:
    """Take Accepted for enough where a gateway never says whether references resolve.

    It is given the time of acceptTimeout to say so, once; then it is known, until it says so after all.
    The share that is counted shows whether that was right.
    """
    alone = seen.route.alone
    if alone is None:
        said = seen.route.candidate_weight is not None
        return replace(state, alone_at=None, takes_alone=state.takes_alone and not said), seen, ()
    believed = replace(seen, route=alone)
    if state.takes_alone:
        return state, believed, ()
    rules, since = seen.rules or NO_POLICY, state.alone_at or now
    if left(since, rules.accept_timeout, now) > ZERO:
        return replace(state, alone_at=since), seen, ()
    message = (
        f"{seen.service}: needs the gateway's word on the route's backends (ResolvedRefs), found Accepted "
        "alone; taken for accepted, and the counted share is compared with the weight"
    )
    state = replace(state, alone_at=None, takes_alone=True)
    return state, believed, (Event("Warning", "ResolvedRefsMissing", message),)


def checked(state: Rollout, seen: Seen) -> tuple[Rollout, tuple[Event, ...]]:
    """Note whether the counted requests go with the weight; tell it once when they no longer do."""
    is_wrong = state.is_at_step and seen.misrouted is not None
    if is_wrong == state.is_misrouted:
        return state, ()
    state = replace(state, is_misrouted=is_wrong)
    if seen.misrouted is None or not is_wrong:
        return state, ()
    return state, (Event("Warning", seen.misrouted.code, seen.misrouted.message),)
