"""The laws of evidence about scores, events and levels: exact where they can be counted."""

import math
import random
from itertools import product

import pytest

from modelops.analysis.bets import (
    event_regression_terms,
    level_evidence,
    score_certificate_terms,
    score_regression_terms,
)
from modelops.analysis.evidence import mixture

SLACK = 1 + 1e-9


# --- scores ------------------------------------------------------------------------------------------

SCORES = (0.0, 0.3, 1.0)


def scored(margin, terms, *, above):
    """Yield the mean evidence of two windows for every pair of laws of scores on the null's side."""
    laws = [law for law in product((0.0, 0.25, 0.5, 1.0), repeat=3) if sum(law) == 1.0]
    for canary, stable in product(laws, laws):
        drop = sum((p - q) * score for p, q, score in zip(stable, canary, SCORES, strict=True))
        if (drop >= margin) if above else (drop <= margin):
            pairs = [
                (p * q, theirs - ours)
                for (p, ours), (q, theirs) in product(zip(canary, SCORES), zip(stable, SCORES))  # noqa: B905
                if p * q
            ]
            yield math.fsum(
                p * q * mixture([a + b for a, b in zip(terms(x, margin), terms(y, margin), strict=True)])
                for (p, x), (q, y) in product(pairs, pairs)
            )


@pytest.mark.parametrize("margin", [0.0, 0.01, 0.2])
def test_a_tolerated_score_gathers_no_evidence_of_a_regression(margin):
    assert max(scored(margin, score_regression_terms, above=False)) <= SLACK


@pytest.mark.parametrize("margin", [0.01, 0.03, 0.5])
def test_an_unacceptable_score_gathers_no_certificate(margin):
    assert max(scored(margin, score_certificate_terms, above=True)) <= SLACK


def test_no_score_costs_more_than_the_stake():
    for drop, margin in product((-1.0, 0.0, 1.0), (0.0, 0.03, 0.9)):
        for terms in (score_regression_terms, score_certificate_terms):
            assert all(math.isfinite(term) and term > math.log(0.15) for term in terms(drop, margin))


def test_a_score_that_is_lower_in_every_window_is_found():
    drops = [0.3] * 30
    sums = [sum(column) for column in zip(*(score_regression_terms(d, 0.01) for d in drops), strict=True)]
    assert mixture(sums) >= 100


# --- events ------------------------------------------------------------------------------------------


def poisson(mean):
    """Return (count, chance) up to where hardly anything is left."""
    return [(k, math.exp(-mean) * mean**k / math.factorial(k)) for k in range(40)]


@pytest.mark.parametrize("exposures", [(10, 90), (50, 50), (400, 30)])
@pytest.mark.parametrize("rate", [0.002, 0.02])
def test_events_keep_the_law_for_every_rate_of_stable(exposures, rate):
    ratio = 1.25
    for part in (1.0, 0.6):
        ours, theirs = (
            poisson(rate * factor * n) for factor, n in zip((ratio * part, 1.0), exposures, strict=True)
        )
        mean = math.fsum(
            p * q * mixture(event_regression_terms((x, y), exposures, ratio))
            for (x, p), (y, q) in product(ours, theirs)
        )
        assert mean <= SLACK


@pytest.mark.parametrize(
    ("events", "exposures"),
    [
        pytest.param((0, 0), (100, 100), id="no events"),
        pytest.param((5, 0), (0, 100), id="a canary without requests"),
        pytest.param((5, 0), (100, 0), id="nothing to compare with"),
    ],
)
def test_without_both_there_is_no_evidence(events, exposures):
    assert set(event_regression_terms(events, exposures, 1.25)) == {0.0}


def test_out_of_memory_kills_of_the_canary_alone_are_found():
    assert mixture(event_regression_terms((6, 0), (300, 2700), 1.25)) >= 100


# --- levels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [10, 30])
def test_the_mean_of_a_level_without_drift_is_a_half(count):
    """In closed form: S^2 / (n V) of normal values is Beta(1/2, (n-1)/2), and half are below 0."""
    log_beta = math.lgamma(0.5) + math.lgamma((count - 1) / 2) - math.lgamma(count / 2)
    steps, total = 40_000, 0.0
    for i in range(steps):
        angle = (i + 0.5) / steps * math.pi / 2  # r = sin^2 takes the edge at 0 away
        r = math.sin(angle) ** 2
        density = 2 * math.exp((count - 2) * math.log(math.cos(angle)) - log_beta)
        total += density * level_evidence(count, -math.sqrt(r * count), 1.0)
    assert total / steps * math.pi / 2 / 2 == pytest.approx(0.5, rel=1e-6)


def test_a_level_above_its_margin_never_gathers_more_than_one_on_its_margin():
    chance = random.Random(3)
    for _ in range(500):
        values = [chance.gauss(0, 1) for _ in range(12)]
        for surplus in (0.0, 0.1, 0.7):
            shifted = [value + surplus for value in values]
            assert level(shifted) <= level(values) * SLACK


def level(values):
    return level_evidence(len(values), sum(values), sum(value * value for value in values))


def test_looking_at_a_level_after_every_window_costs_nothing():
    """Ville's inequality, simulated: 1,000 courses of 40 windows, fixed seed."""
    chance, passed = random.Random(8), 0
    for _ in range(1000):
        count, total, squares, most = 0, 0.0, 0.0, 0.0
        for _ in range(40):
            value = chance.gauss(0, 1)
            count, total, squares = count + 1, total + value, squares + value * value
            most = max(most, level_evidence(count, total, squares))
        passed += most >= 20
    assert passed <= 1000 / 20


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        pytest.param([-1.0] * 9, 0.0, id="too few windows"),
        pytest.param([1.0] * 20, 0.0, id="better than its margin"),
        pytest.param([0.0] * 20, 0.0, id="on its margin to the bit"),
    ],
)
def test_a_level_that_shows_no_harm_has_no_evidence(values, wanted):
    assert level(values) == wanted


def test_a_level_that_fell_is_found():
    assert level([-0.2 + 0.05 * (-1) ** i for i in range(12)]) >= 100
