"""What a rollout asks of the route and of the number of pods."""

from modelops.rollouts.state import Phase, Rollout

FULL = 100


def candidate_replicas(replicas: int, weight: int) -> int:
    """Return how many candidate pods carry *weight* percent at stable's load per pod.

    Stable keeps all its pods meanwhile (capacity Surge), so at weight w of N pods the candidate needs
    ceil(N w / (1 - w)), at most N and at least one.

    Source: research/rollouts.md 9.3.
    """
    if weight >= FULL:
        return replicas
    return min(replicas, max(1, -(-replicas * weight // (FULL - weight))))


def weights(state: Rollout, *, candidate_ready: int) -> tuple[tuple[str, int], ...]:
    """Return (revision hash, percent) for the route, summing to 100; empty: nothing can serve yet.

    A candidate without a ready pod gets nothing, whatever its step says.
    """
    if state.stable is None:
        return ()
    candidate = state.candidate
    if candidate is None or state.phase is Phase.AWAITING_APPROVAL:
        return ((state.stable.hash, FULL),)
    weight = state.weight if candidate_ready > 0 else 0
    return ((state.stable.hash, FULL - weight), (candidate.hash, weight))
