"""What a rollout asks of the route."""

from dataclasses import dataclass

from modelops.rollouts.state import Rollout

FULL = 100
TOO_UNLIKELY = 15.1
"""chi2 with one degree of freedom that a right split exceeds once in 10 000 times."""
LEAST_POINTS, LEAST_PART = 1.0, 0.1
"""A share that is off by less than a point, or a tenth of the smaller share, is precise enough: at many
requests chi2 would hold a step for a gateway that rounds."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Where requests go."""

    weights: tuple[tuple[str, int], ...] = ()
    """(revision hash, percent), summing to 100; empty: nothing can serve yet."""
    mirror: tuple[str, int] | None = None
    """Revision that gets copies, and of how many percent of the requests."""
    matched: str = ""
    """Revision that gets the requests which the policy matches; empty: no such rule."""


def shares(state: Rollout, *, candidate_ready: int) -> Shares:
    """Return where requests go; a candidate without a ready pod gets nothing, whatever its step says."""
    if state.stable is None:
        return Shares()
    candidate = state.candidate
    if candidate is None or state.is_before_start:
        return Shares(((state.stable.hash, FULL),))
    weight = asked_weight(state, candidate_ready=candidate_ready)
    is_there = candidate_ready > 0
    return Shares(
        ((state.stable.hash, FULL - weight), (candidate.hash, weight)),
        (candidate.hash, state.mirror) if state.mirror and is_there else None,
        candidate.hash if state.is_matched and is_there else "",
    )


def weights(state: Rollout, *, candidate_ready: int) -> tuple[tuple[str, int], ...]:
    """Return (revision hash, percent) for the route, summing to 100; empty: nothing can serve yet."""
    return shares(state, candidate_ready=candidate_ready).weights


def asked_weight(state: Rollout, *, candidate_ready: int) -> int:
    """Return the weight that the route really gets: none for a candidate without a ready pod."""
    return state.weight if candidate_ready > 0 else 0


def measured_percent(canary: int, stable: int) -> float | None:
    """Return the candidate's share of the counted requests in percent; None without requests."""
    total = canary + stable
    return 100 * canary / total if total else None


def mismatch(canary: int, stable: int, weight: int) -> float:
    """Return chi2 of the counted requests against *weight* percent; 0 where nothing can be said.

    Over TOO_UNLIKELY the gateway does not split as it was told: affinity, keep-alive or retries do.
    Source: research/rollouts.md 9.2.
    """
    total, share = canary + stable, weight / 100
    expected = total * share * (1 - share)
    return (canary - total * share) ** 2 / expected if expected else 0.0


def strays(canary: int, stable: int, weight: int) -> bool:
    """Return whether the counted requests go another way than *weight* percent says: by more than chance,
    and by more than a little.

    Source: research/rollouts.md 9.2 for chi2; Gateway API, HTTPBackendRef.weight: implementations may be off
    by their precision, and its conformance test lets 5 points pass.
    """
    measured = measured_percent(canary, stable)
    if measured is None:
        return False
    least = max(LEAST_POINTS, LEAST_PART * min(weight, FULL - weight))
    return abs(measured - weight) >= least and mismatch(canary, stable, weight) > TOO_UNLIKELY
