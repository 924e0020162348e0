"""How many pods each role has: equal load per pod keeps latencies comparable.

Source: research/rollouts.md 9.3.
"""

from dataclasses import replace

from modelops.rollouts.rules import Stage
from modelops.rollouts.seen import Seen
from modelops.rollouts.state import Rollout, Room

FULL = 100


def candidate_pods(state: Rollout, replicas: int) -> int:
    """Return how many pods the candidate of a service with *replicas* pods should have.

    Surge: stable keeps all its pods, so at weight w of N pods ceil(N w / (1 - w)) carry stable's load each,
    at most N.  Where stable shrinks they are ceil(w N), or round(w N) where their number is the share.
    """
    if state.room is Room.RECREATE:
        return replicas if state.capacity else 0
    if state.fixed_pods is not None:
        return state.fixed_pods
    weight = state.capacity or 1
    if weight >= FULL:
        return replicas
    match state.room:
        case Room.DYNAMIC_STABLE:
            return max(1, _up(replicas * weight, FULL))
        case Room.SPLIT:
            return max(1, _share(replicas, weight))
        case _:
            return min(replicas, max(1, _up(replicas * weight, FULL - weight)))


def sized(state: Rollout, stage: Stage) -> Rollout:
    """Return *state* with the candidate's pods sized for *stage*: all where no share is known."""
    return replace(state, capacity=stage.weight or stage.mirror or FULL, fixed_pods=stage.pods)


def stable_pods(state: Rollout, replicas: int) -> int:
    """Return how many pods stable should have."""
    return _shrunk(state.room, replicas, state.stable_capacity)


def previous_pods(state: Rollout, replicas: int) -> int:
    """Return how many pods the version that served before keeps while the new one bakes."""
    return _shrunk(state.room, replicas, state.previous_capacity)


def lowered(state: Rollout, seen: Seen) -> Rollout:
    """Return *state* with as little traffic to the candidate as stable's ready pods can carry of the rest.

    Stable that was not shrunk has all its pods, so harm ends at once.  Where it was, they are asked back
    first, and the weight falls as they get ready.
    """
    state = replace(state, stable_capacity=FULL, mirror=0, is_matched=False)
    ready = seen.stable.ready
    if state.room is Room.SURGE or seen.candidate.ready == 0 or ready >= seen.replicas:
        return replace(state, weight=0)
    return replace(state, weight=min(state.weight, FULL - FULL * ready // max(1, seen.replicas)))


def _shrunk(room: Room, replicas: int, capacity: int) -> int:
    if capacity >= FULL:
        return replicas
    if room is Room.SPLIT:
        return max(1, replicas - _share(replicas, FULL - capacity))
    return _up(replicas * capacity, FULL)


def _share(replicas: int, weight: int) -> int:
    """Return *weight* percent of the pods, rounded to the nearest number, halves up."""
    return (2 * replicas * weight + FULL) // (2 * FULL)


def _up(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
