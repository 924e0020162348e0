"""The laws of evidence over several windows, by summing over every possible course of a small run.

Nothing is drawn by chance: each course has its exact probability, so a bound that fails by a hair shows.
"""

import copy
import math
from collections.abc import Callable, Iterator
from itertools import product

import pytest

from modelops.analysis.accounts import Account
from modelops.analysis.evidence import Counts, floor_terms, hedged, log_e, mixture, slo_terms
from modelops.analysis.frozen import Share

TOLERATED, UNACCEPTABLE = 1.25, 1.6
SLACK = 1 + 1e-9
HEALTHY = ((0.1, 1.0), (0.1, 1.0), (0.1, 1.0))
BAD_WEATHER = ((0.05, 1.0), (0.5, 1.0), (0.2, 1.0))
BETTER_AT_TIMES = ((0.3, 1.0), (0.3, 0.2), (0.1, 1.0))
WEATHERS = [
    pytest.param(HEALTHY, id="stable stays as it was"),
    pytest.param(BAD_WEATHER, id="stable's share jumps and falls"),
    pytest.param(BETTER_AT_TIMES, id="the canary is on the line only at times"),
]
"""Stable's share in each window, and where the canary is: 1 is on the line between good and bad."""


def _outcomes(canary_all: int, stable_all: int, p_c: float, p_s: float) -> Iterator[tuple[float, Counts]]:
    for bad_c, bad_s in product(range(canary_all + 1), range(stable_all + 1)):
        chance = _binomial(canary_all, bad_c, p_c) * _binomial(stable_all, bad_s, p_s)
        yield chance, Counts(bad_c, canary_all, bad_s, stable_all)


def _binomial(trials: int, bad: int, p: float) -> float:
    return math.comb(trials, bad) * p**bad * (1 - p) ** (trials - bad)


def _courses(
    weather: tuple[tuple[float, float], ...],
    line: float,
    evidence: Callable[[Account], float],
    *,
    dispersion: float = 1.0,
    above: bool = False,
    most: float = math.inf,
) -> Iterator[tuple[float, list[float], list[Account]]]:
    """Yield probability, evidence after each window, and accounts of every course.

    As a rollout does, it sends the next window more or fewer requests by what was seen so far, and
    starts the guess anew after a surprise.  *above* puts the canary on the bad side of *line*.
    """

    def follow(t, chance, values, accounts):
        if t == len(weather):
            yield chance, values, accounts
            return
        p_s, place = weather[t]
        p_c = 1 - (1 - line * p_s) * place if above else line * p_s * place
        canary_all = 3 if not values or values[-1] < 1 else 2
        for part, counts in _outcomes(canary_all, 3, p_c, p_s):
            account = copy.deepcopy(accounts[-1])
            is_surprise = account.is_surprised_by(counts)
            account.compare(counts, TOLERATED, UNACCEPTABLE, hedge=0.05, most=most, is_doubted=is_surprise)
            if is_surprise:
                account.start_anew(counts)
            yield from follow(t + 1, chance * part, [*values, evidence(account)], [*accounts, account])

    yield from follow(0, 1.0, [], [Account.of(Share(2.0, 20.0, dispersion))])


def _regression(account: Account) -> float:
    return account.regression.evidence()


def _certificate(account: Account) -> float:
    return account.certificate.evidence()


@pytest.mark.parametrize("weather", WEATHERS)
@pytest.mark.parametrize("dispersion", [1.0, 1.5])
def test_a_tolerated_canary_gathers_no_evidence_of_a_regression(weather, dispersion):
    weather = weather[:2]
    courses = list(_courses(weather, TOLERATED, _regression, dispersion=dispersion))
    assert math.isclose(math.fsum(chance for chance, _, _ in courses), 1.0)
    assert math.fsum(chance * values[-1] for chance, values, _ in courses) <= SLACK


@pytest.mark.parametrize("weather", WEATHERS)
@pytest.mark.parametrize("dispersion", [1.0, 1.5])
def test_an_unacceptable_canary_gathers_no_certificate(weather, dispersion):
    weather = weather[:2]
    courses = _courses(weather, UNACCEPTABLE, _certificate, dispersion=dispersion, above=True)
    assert math.fsum(chance * values[-1] for chance, values, _ in courses) <= SLACK


@pytest.mark.parametrize(
    ("line", "evidence", "above"),
    [
        pytest.param(TOLERATED, _regression, False, id="rollback"),
        pytest.param(UNACCEPTABLE, _certificate, True, id="promotion"),
    ],
)
def test_looking_after_every_window_costs_nothing(line, evidence, above):
    """Ville's inequality: the evidence passes a bar at any of the windows with probability 1/bar at most."""
    courses = list(_courses(BAD_WEATHER, line, evidence, above=above))
    for bar in (1.2, 1.5, 2.0, 5.0, 20.0):
        assert math.fsum(chance for chance, values, _ in courses if max(values) >= bar) <= 1 / bar


def test_bounded_windows_are_never_worth_more_than_whole_ones():
    """So the bound of the evidence also holds for what decides."""
    for _, _, accounts in _courses(BAD_WEATHER[:2], TOLERATED, _regression, most=0.3):
        for account in accounts:
            assert account.regression.robust() <= account.regression.evidence() * SLACK


@pytest.mark.parametrize("floor", [0.001, 0.005, 0.05])
@pytest.mark.parametrize("trials", [1, 30, 200])
def test_a_share_up_to_the_floor_gathers_no_evidence(floor, trials):
    for share in (floor, 0.6 * floor, 0.0):
        assert _one_sample(trials, share, lambda c: mixture(floor_terms(c, floor))) <= SLACK


@pytest.mark.parametrize("slo", [0.001, 0.01, 0.2])
@pytest.mark.parametrize("trials", [1, 30, 200])
@pytest.mark.parametrize("hedge", [0.0, 0.05])
def test_a_share_from_the_limit_up_gathers_no_certificate(slo, trials, hedge):
    for share in (slo, 1.5 * slo, 0.9):
        worst = _one_sample(trials, share, lambda c: mixture([hedged(t, hedge) for t in slo_terms(c, slo)]))
        assert worst <= SLACK


def _one_sample(trials: int, share: float, value: Callable[[Counts], float]) -> float:
    return math.fsum(
        _binomial(trials, bad, share) * value(Counts(bad, trials, 0, 0)) for bad in range(trials + 1)
    )


@pytest.mark.parametrize(
    ("q_c", "above"),
    [pytest.param(0.3, False, id="regression"), pytest.param(0.08, True, id="certificate")],
)
def test_the_whole_null_is_covered_not_its_edge_alone(q_c, above):
    """A grid over all pairs of shares on the null's side of p_c = ratio * p_s, in closed form.

    The mean of a likelihood ratio of binomials is a product of n-th powers, so no sum is needed.
    """
    n_c, n_s, q_s, ratio = 120, 900, 0.1, 1.5
    found = []
    for i, j in product(range(101), range(101)):
        p_c, p_s = i / 100, j / 100
        if (p_c >= ratio * p_s) if above else (p_c <= ratio * p_s):
            found.append(_log_mean(n_c, n_s, q_c, q_s, ratio, p_c, p_s))
    assert max(found) <= 1e-9


def _log_mean(n_c: int, n_s: int, q_c: float, q_s: float, ratio: float, p_c: float, p_s: float) -> float:
    def one(counts: Counts) -> float:
        return log_e(counts, q_c, q_s, ratio)

    none = one(Counts(0, n_c, 0, n_s))
    canary_bad = (one(Counts(n_c, n_c, 0, n_s)) - none) / n_c
    stable_bad = (one(Counts(0, n_c, n_s, n_s)) - none) / n_s
    return (
        none + n_c * math.log1p(p_c * math.expm1(canary_bad)) + n_s * math.log1p(p_s * math.expm1(stable_bad))
    )
