"""E-variables for two shares that are compared window by window, and their mixtures.

An e-variable has a mean of at most 1 while the null hypothesis holds, so the product over windows
exceeds 1/alpha with probability alpha at most, however often it is looked at (Ville).

Source: Grünwald, de Heide, Koolen, "Safe Testing"; Turner, Ly, Grünwald, two-sample e-variables.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

REGRESSION_FACTORS = (1.15, 1.3, 1.6, 2.0, 3.0, 5.0, 10.0, 30.0)
FLOOR_FACTORS = (1.3, 2.0, 4.0, 8.0, 20.0, 60.0, 150.0)
CERTIFICATE_FACTORS = (0.5, 0.75, 1.0)
SLO_FACTORS = (0.02, 0.1, 0.3, 0.5)
EXPONENT_CAP = 60.0
TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Counts:
    """Trials and bad ones of both roles in one window, 0 <= bad <= all."""

    canary_bad: int
    canary_all: int
    stable_bad: int
    stable_all: int


def projection(canary_all: int, stable_all: int, q_c: float, q_s: float, ratio: float) -> tuple[float, float]:
    """Return the (p_c, p_s) with p_c = ratio * p_s that is nearest to the guesses in Kullback-Leibler terms.

    The stationary point is the smaller root of a quadratic.
    """
    bad = canary_all * q_c + stable_all * q_s
    canary_good = canary_all * (1 - q_c) * ratio
    stable_good = stable_all * (1 - q_s)
    a = bad * ratio + canary_good + stable_good * ratio
    b = bad * (ratio + 1) + canary_good + stable_good
    x = (b - math.sqrt(max(0.0, b * b - 4 * a * bad))) / (2 * a)
    return _inside(ratio * x), _inside(x)


def log_e(counts: Counts, q_c: float, q_s: float, ratio: float) -> float:
    """Return ln S against the null on the far side of p_c = *ratio* * p_s; 0 without canary trials.

    The mean of S is at most 1 for every pair in the null and every number of trials, whichever
    side of the line the guesses are on.
    """
    if counts.canary_all == 0:
        return 0.0
    p_c, p_s = projection(counts.canary_all, counts.stable_all, q_c, q_s, ratio)
    return log_likelihood(counts.canary_bad, counts.canary_all, q_c, p_c) + log_likelihood(
        counts.stable_bad, counts.stable_all, q_s, p_s
    )


def log_likelihood(bad: int, trials: int, q: float, p: float) -> float:
    """Return the log likelihood ratio of share *q* to share *p*: ln S of the one-sample form."""
    return bad * math.log(q / p) + (trials - bad) * math.log((1 - q) / (1 - p))


def regression_terms(counts: Counts, guess: float, ratio: float) -> tuple[float, ...]:
    """Return ln S for each alternative of "worse than *ratio* times stable"."""
    terms = []
    for factor in REGRESSION_FACTORS:
        q_c = min(max(guess * ratio * factor, 1e-5), 0.98)
        terms.append(0.0 if q_c <= ratio * guess else log_e(counts, q_c, guess, ratio))
    return tuple(terms)


def floor_terms(counts: Counts, floor: float) -> tuple[float, ...]:
    """Return ln S for each alternative of "the canary's share is above *floor*"."""
    p = max(floor, TINY)
    guesses = (min(p * factor, 0.97) for factor in FLOOR_FACTORS)
    return tuple(log_likelihood(counts.canary_bad, counts.canary_all, q, p) for q in guesses)


def certificate_terms(counts: Counts, guess: float, ratio: float) -> tuple[float, ...]:
    """Return ln S for each alternative of "better than *ratio* times stable"."""
    guesses = (min(max(guess * factor, 1e-6), 0.97) for factor in CERTIFICATE_FACTORS)
    return tuple(log_e(counts, q_c, guess, ratio) for q_c in guesses)


def slo_terms(counts: Counts, slo: float) -> tuple[float, ...]:
    """Return ln S for each alternative of "the canary's share is below *slo*"."""
    p = max(slo, TINY)
    return tuple(
        log_likelihood(counts.canary_bad, counts.canary_all, p * factor, p) for factor in SLO_FACTORS
    )


def above_terms(bad: int, trials: int, limit: float, factors: Sequence[float]) -> tuple[float, ...]:
    """Return ln S for each alternative of "the share is above *limit*", *limit* times one of *factors*.

    One-sample form against a fixed share: with q > *limit* the mean of S rises with the true share and is
    1 at *limit*, so it is at most 1 for every share up to it.  An alternative that would have to be clipped
    down to *limit* proves nothing: ln S = 0.
    """
    terms = []
    for factor in factors:
        q = min(limit * factor, 0.98)
        terms.append(log_likelihood(bad, trials, q, max(limit, TINY)) if q > limit else 0.0)
    return tuple(terms)


def below_terms(bad: int, trials: int, limit: float, guesses: Sequence[float]) -> tuple[float, ...]:
    """Return ln S for each alternative in *guesses* of "the share is below *limit*".

    As ``above_terms``: with q < *limit* the mean of S falls as the true share rises, and is 1 at *limit*.
    """
    p = min(limit, 1 - TINY)
    return tuple(log_likelihood(bad, trials, max(q, TINY), p) if TINY < q < p else 0.0 for q in guesses)


def interval(bad: float, trials: float, z: float) -> tuple[float, float]:
    """Return the shares (low, high) that *bad* of *trials* go with, *z* standard errors to each side.

    Wilson's score interval; (0, 1) without trials.
    Source: Wilson, J. Am. Stat. Assoc. 22 (1927); 90 of 100 with z 1.96 give 0.8256 and 0.9448.
    """
    if trials <= 0:
        return 0.0, 1.0
    share, part = bad / trials, z * z / trials
    centre = share + part / 2
    half = z * math.sqrt(share * (1 - share) / trials + part / (4 * trials))
    return max(0.0, (centre - half) / (1 + part)), min(1.0, (centre + half) / (1 + part))


def hedged(term: float, part: float) -> float:
    """Return ln((1 - part) S + part) of *term* = ln S: an e-variable when S is one, and never below ln part.

    *part* is 0..1; with 0 the term comes back as it is.
    """
    if not part:
        return term
    low, high = sorted((math.log1p(-part) + term, math.log(part)))
    return high + math.log1p(math.exp(low - high))


def doubted(terms: Iterable[float]) -> tuple[float, ...]:
    """Return ln min(S, 1) of each term = ln S: an e-variable when S is one, and no evidence for anything."""
    return tuple(min(0.0, term) for term in terms)


def mixture(sums: Sequence[float]) -> float:
    """Return the mean e-value of alternatives whose logarithms are *sums*, exponents capped."""
    return math.fsum(math.exp(min(EXPONENT_CAP, term)) for term in sums) / len(sums)


def _inside(share: float) -> float:
    return min(max(share, TINY), 1 - TINY)
