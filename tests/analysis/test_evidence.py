"""The arithmetic of evidence, against worked values and by summing over every possible outcome."""

import math
import random

import pytest

from modelops.analysis.evidence import (
    Counts,
    certificate_terms,
    floor_terms,
    hedged,
    log_e,
    mixture,
    projection,
    regression_terms,
    slo_terms,
)

VECTORS = [
    pytest.param(
        Counts(5, 100, 3, 900),
        0.01625,
        0.01,
        1.25,
        (0.012958, 0.010367, 1.03869),
        id="more errors than stable",
    ),
    pytest.param(
        Counts(0, 100, 3, 900),
        0.01625,
        0.01,
        1.25,
        (0.012958, 0.010367, -0.10977),
        id="no errors",
    ),
    pytest.param(
        Counts(30, 150, 120, 1350),
        0.2032,
        0.1,
        1.27,
        (0.136700, 0.107638, 3.92368),
        id="twice as many are slow",
    ),
    pytest.param(
        Counts(20, 150, 15, 150),
        0.075,
        0.1,
        1.86,
        (0.112388, 0.060423, -0.97847),
        id="certificate of a slower one",
    ),
]


@pytest.mark.parametrize(("counts", "q_c", "q_s", "ratio", "wanted"), VECTORS)
def test_one_window_has_the_worked_value(counts, q_c, q_s, ratio, wanted):
    p_c, p_s = projection(counts.canary_all, counts.stable_all, q_c, q_s, ratio)
    assert (round(p_c, 6), round(p_s, 6)) == wanted[:2]
    assert round(log_e(counts, q_c, q_s, ratio), 5) == wanted[2]


def test_the_relative_mixture_has_the_worked_values():
    terms = regression_terms(Counts(4, 75, 1, 225), 0.003, 1.25)
    assert [round(term, 4) for term in terms] == [
        0.3445,
        0.6293,
        1.0727,
        1.4921,
        2.0979,
        2.5797,
        2.7939,
        2.2869,
    ]
    assert round(mixture(terms), 5) == 7.27358


def test_the_absolute_mixture_has_the_worked_value():
    assert round(mixture(floor_terms(Counts(4, 75, 0, 0), 0.005)), 4) == 78.8366


def test_the_absolute_certificate_has_the_worked_values():
    terms = slo_terms(Counts(0, 298, 0, 0), 0.01)
    assert round(mixture(terms), 4) == 11.5781
    assert round(math.exp(max(terms)), 1) == 18.8


def test_a_window_without_canary_requests_is_worth_nothing():
    assert log_e(Counts(0, 0, 7, 900), 0.1, 0.05, 1.25) == 0.0


def test_an_alternative_that_is_clipped_into_the_null_is_worth_nothing():
    assert regression_terms(Counts(9, 10, 90, 100), 0.9, 1.2)[0] == 0.0


def test_exponents_are_capped():
    assert mixture([1000.0]) == math.exp(60.0)


def _binomial(trials, p):
    return [math.comb(trials, y) * p**y * (1 - p) ** (trials - y) for y in range(trials + 1)]


def _mean(n_c, n_s, p_c, p_s, value):
    """Return E[value] over every pair of outcomes."""
    canary, stable = _binomial(n_c, p_c), _binomial(n_s, p_s)
    return math.fsum(
        canary[y_c] * stable[y_s] * value(Counts(y_c, n_c, y_s, n_s))
        for y_c in range(n_c + 1)
        for y_s in range(n_s + 1)
    )


def _designs(seed, number):
    chance = random.Random(seed)
    for _ in range(number):
        q_s = chance.uniform(0.001, 0.5)
        yield (
            chance.randrange(1, 40),
            chance.randrange(1, 150),
            chance.uniform(1, 3),
            q_s,
            chance,
        )


def test_the_mean_is_at_most_one_for_every_canary_that_is_no_worse():
    """Law of 5.7 by exact enumeration: no regression, whatever the true shares and counts."""
    worst = 0.0
    for n_c, n_s, ratio, q_s, chance in _designs(501, 60):
        q_c = min(0.98, q_s * ratio * chance.uniform(1.05, 10))
        if q_c <= ratio * q_s:
            continue
        p_s = chance.uniform(0.001, 0.9 / ratio)
        for p_c in (ratio * p_s, ratio * p_s * chance.random()):
            worst = max(
                worst,
                _mean(
                    n_c,
                    n_s,
                    p_c,
                    p_s,
                    lambda c, q_c=q_c, q_s=q_s, r=ratio: math.exp(log_e(c, q_c, q_s, r)),
                ),
            )
    assert 0.9 < worst <= 1 + 1e-9


def test_the_mean_is_at_most_one_for_every_canary_that_is_unacceptable():
    """Law of 5.9 by exact enumeration: no certificate for a bad version."""
    worst = 0.0
    for n_c, n_s, ratio, q_s, chance in _designs(502, 60):
        q_c = q_s * chance.choice((0.5, 0.75, 1.0))
        p_s = chance.uniform(0.001, 0.9 / ratio)
        for p_c in (ratio * p_s, chance.uniform(ratio * p_s, 1)):
            worst = max(
                worst,
                _mean(
                    n_c,
                    n_s,
                    p_c,
                    p_s,
                    lambda c, q_c=q_c, q_s=q_s, r=ratio: math.exp(log_e(c, q_c, q_s, r)),
                ),
            )
    assert 0.9 < worst <= 1 + 1e-9


@pytest.mark.parametrize("eta", [1.0, 0.5])
@pytest.mark.parametrize("hedge", [0.0, 0.05, 0.5])
def test_mixtures_keep_the_law_also_when_tempered_and_hedged(eta, hedge):
    chance = random.Random(503)
    for _ in range(8):
        n_c, n_s, guess, ratio = (
            chance.randrange(1, 15),
            chance.randrange(1, 25),
            chance.uniform(0.01, 0.3),
            1.3,
        )
        p_s = chance.uniform(0.01, 0.7)

        def accuses(counts, guess=guess):
            return mixture([eta * term for term in regression_terms(counts, guess, 1.3)])

        def clears(counts, guess=guess):
            return mixture([hedged(eta * term, hedge) for term in certificate_terms(counts, guess, 1.3)])

        assert _mean(n_c, n_s, min(1.0, ratio * p_s), p_s, accuses) <= 1 + 1e-9
        assert _mean(n_c, n_s, min(1.0, ratio * p_s), p_s, clears) <= 1 + 1e-9


@pytest.mark.parametrize("term", [-1e4, -60.0, -1.0, 0.0, 1.0, 700.0])
def test_a_hedge_bounds_what_one_window_can_cost(term):
    assert hedged(term, 0.0) == term
    assert math.log(0.05) <= hedged(term, 0.05) <= max(1e-9, term)
    assert hedged(term, 0.05) >= term + math.log(0.95)


@pytest.mark.parametrize("trials", [1, 17, 300])
def test_fixed_shares_keep_the_law(trials):
    above = _binomial(trials, 0.005)
    below = _binomial(trials, 0.01)
    outcomes = range(trials + 1)
    assert (
        math.fsum(above[y] * mixture(floor_terms(Counts(y, trials, 0, 0), 0.005)) for y in outcomes)
        <= 1 + 1e-9
    )
    assert (
        math.fsum(below[y] * mixture(slo_terms(Counts(y, trials, 0, 0), 0.01)) for y in outcomes) <= 1 + 1e-9
    )
