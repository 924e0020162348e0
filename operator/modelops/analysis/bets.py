"""E-variables for what is no share of requests: scores, events without a total, and levels.

Source: research/rollouts.md 5.12; tests/analysis/test_bets.py counts the laws out.
"""

import math

from modelops.analysis.evidence import EXPONENT_CAP, REGRESSION_FACTORS, log_likelihood

STAKES = (0.05, 0.1, 0.2, 0.4, 0.8)
PRIOR_WINDOWS = 1.0
"""How many windows the prior of a level's drift is worth."""
LEAST_WINDOWS = 10


def score_regression_terms(drop: float, margin: float) -> tuple[float, ...]:
    """Return ln S for each stake against "the canary's score is at most *margin* lower than stable's".

    *drop* is stable's mean minus the canary's, within -1..1.  The bet 1 + l (drop - margin) is positive for
    l below 1 / (1 + margin), and its mean is at most 1 while the mean drop is at most the margin.

    Source: Waudby-Smith, Ramdas, "Estimating means of bounded random variables by betting".
    """
    return tuple(math.log1p(stake / (1 + margin) * (drop - margin)) for stake in STAKES)


def score_certificate_terms(drop: float, margin: float) -> tuple[float, ...]:
    """Return ln S for each stake against "the canary's score is *margin* lower than stable's, or more".

    As ``score_regression_terms``, with the bet on the other side; *margin* is below 1.
    """
    return tuple(
        math.log1p(stake * (margin - drop) / (1 - margin)) if margin < 1 else 0.0 for stake in STAKES
    )


def event_regression_terms(
    events: tuple[int, int], exposures: tuple[int, int], ratio: float
) -> tuple[float, ...]:
    """Return ln S for each alternative of "events of the canary come more than *ratio* times as often".

    *events* and *exposures* (requests) are the canary's and stable's.  Given their sum, the canary's part of
    Poisson events is binomial, and its share is at most that of *ratio* while the rate is.

    Source: Lindon, Malek, "Anytime-valid inference for multinomial count data".
    """
    ours, all_ = events[0], sum(events)
    limit = _part(ratio, exposures)
    if not all_ or limit is None:
        return (0.0,) * len(REGRESSION_FACTORS)
    shares = (_part(ratio * factor, exposures) or limit for factor in REGRESSION_FACTORS)
    return tuple(log_likelihood(ours, all_, share, limit) if share > limit else 0.0 for share in shares)


def _part(ratio: float, exposures: tuple[int, int]) -> float | None:
    """Return the canary's share of all events at *ratio* times stable's rate; None when one saw nothing."""
    canary, stable = exposures
    if not canary or not stable:
        return None
    return ratio * canary / (ratio * canary + stable)


def level_evidence(count: int, total: float, squares: float) -> float:
    """Return the evidence that a level has drifted below 0, from *count* values, their sum and squares.

    A mixture of t-statistics over the drift in standard deviations, normal with the weight of one window.
    It knows no unit.  Under normal values with mean 0 its mean is 1; counted only while the sum is below 0
    it is an e-process for every mean from 0 up, since more of all values makes the t-statistic larger:
    where it is still below 0, the evidence is smaller than the same values' without the surplus.
    0 before 10 windows and while the sum points to no harm.

    Source: Wang, Ramdas, "Anytime-valid t-tests and confidence sequences for Gaussian means".
    """
    if count < LEAST_WINDOWS or total >= 0 or squares <= 0:
        return 0.0
    all_ = count + PRIOR_WINDOWS
    rest = all_ * squares - total * total  # at least squares, by Cauchy and Schwarz
    log_value = 0.5 * math.log(PRIOR_WINDOWS / all_) + 0.5 * count * math.log(all_ * squares / rest)
    return math.exp(min(EXPONENT_CAP, log_value))
