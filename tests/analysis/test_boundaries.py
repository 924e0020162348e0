"""Where histograms are cut and what a slowdown means there, against worked values."""

import math
import random
from statistics import NormalDist

import pytest

from modelops.analysis.boundaries import (
    QUANTILES,
    Curve,
    Pick,
    choose,
    dispersion,
    pod_spread,
    tolerated,
)

LE = (0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, math.inf)
F = (20, 300, 700, 880, 950, 990, 998, 1000)


@pytest.mark.parametrize(
    ("bound", "tenth", "third"),
    [(0.5, 1.17301, 1.49768), (0.75, 1.27814, 1.87851), (2.5, 1.20522, 1.65358)],
)
def test_margins_become_ratios_of_exceedance(bound, tenth, third):
    curve = Curve.of(LE, F)
    assert round(curve.ratio(bound, 0.1), 5) == tenth
    assert round(curve.ratio(bound, 0.3), 5) == third


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.3, 1.7])
def test_a_margin_is_that_of_the_load_there_is_now(factor):
    """Against a lognormal, of which all is known: median 0.6 s, sigma 0.7, all of it *factor* as slow."""
    bounds = (0.2, 0.4, 0.6, 0.9, 1.4, 2.2)
    phi = NormalDist().cdf
    pooled = [round(1e6 * phi(math.log(b / 0.6) / 0.7)) for b in bounds]
    curve = Curve.of((*bounds, math.inf), (*pooled, 1000000))

    def exceeding(slower):
        return 1 - phi(math.log(0.9 / (0.6 * slower)) / 0.7)

    wanted = exceeding(1.3 * factor) / exceeding(factor)
    assert curve.ratio_at(exceeding(factor), 0.3) == pytest.approx(wanted, rel=1e-3)


def test_at_the_load_of_the_history_the_margin_is_that_of_the_history():
    curve = Curve.of(LE, F)
    assert curve.ratio_at(0.3, 0.3) == pytest.approx(curve.ratio(0.5, 0.3))


def test_a_boundary_alone_takes_the_usual_slope():
    curve = Curve.of((0.5, math.inf), (500, 1000))
    wanted = 2 * (0.5 + 0.5 * math.erf(math.log(1.1) / 0.6 / math.sqrt(2)))
    assert curve.ratio(0.5, 0.1) == pytest.approx(wanted)


def test_an_empty_second_bucket_does_not_make_every_slowdown_a_regression():
    assert Curve.of((0.1, 0.25, 1, math.inf), (500, 500, 900, 1000)).ratio(0.1, 0.3) > 1.1


@pytest.mark.parametrize(("canary", "stable", "wanted"), [(1, 8, 0.15991), (8, 8, 0.12785)])
def test_few_pods_are_given_slack(canary, stable, wanted):
    assert round(tolerated(0.10, 0.05, canary, stable), 5) == wanted


@pytest.mark.parametrize(
    ("pooled", "wanted"),
    [
        pytest.param(
            F,
            (
                Pick(2, (0.75,), is_tail=False),
                Pick(3, (0.90,), is_tail=False),
                Pick(5, (0.99,), is_tail=True),
            ),
            id="one boundary for each quantile",
        ),
        pytest.param(
            (0, 500, 990, 1000),
            (Pick(1, (0.75, 0.90), is_tail=False), Pick(2, (0.99,), is_tail=True)),
            id="picks add up",
        ),
        pytest.param(
            (0, 500, 500, 900, 1000),
            (Pick(1, (0.75,), is_tail=False), Pick(3, (0.90, 0.99), is_tail=False)),
            id="lower bound on ties",
        ),
        pytest.param(
            (100, 990, 1000),
            (Pick(0, (0.75,), is_tail=False), Pick(1, (0.90, 0.99), is_tail=True)),
            id="a tail alone is joined by a boundary that can certify",
        ),
        pytest.param(
            (100, 1000),
            (Pick(0, QUANTILES, is_tail=False),),
            id="no candidate: the only one takes all",
        ),
        pytest.param((0, 0, 1000, 1000), (), id="all in one bucket: no resolution"),
        pytest.param((990, 1000), (), id="only a tail: no resolution"),
        pytest.param((0, 0), (), id="no observations"),
    ],
)
def test_boundaries_lie_at_the_quantiles(pooled, wanted):
    assert choose(pooled) == wanted


def test_each_quantile_is_picked_once():
    chance = random.Random(11)
    for _ in range(300):
        pooled = [*sorted(chance.randrange(0, 500) for _ in range(7)), 500]
        picks = choose(pooled)
        assert sorted(q for pick in picks for q in pick.quantiles) == (list(QUANTILES) if picks else [])


def _pod(chance, shift, n=4000):
    logs = [chance.gauss(shift, 0.6) for _ in range(n)]
    bounds = [math.exp(-2.5 + 0.1 * k) for k in range(60)] + [math.inf]
    return bounds, [sum(math.exp(x) <= bound for x in logs) for bound in bounds]


def test_the_spread_between_pods_is_measured():
    chance = random.Random(12)
    shifts = [-0.2, -0.1, 0.0, 0.1, 0.2]
    pods = [_pod(chance, shift, 1500) for shift in shifts]
    assert pod_spread(pods[0][0], [row for _, row in pods]) == pytest.approx(0.158, abs=0.03)


def test_two_pods_are_too_few_to_measure_a_spread():
    assert pod_spread((1.0, math.inf), [(50, 100), (70, 100)]) == 0.05


@pytest.mark.parametrize(
    ("windows", "pods", "wanted"),
    [
        pytest.param([], 0, 1.2, id="no history"),
        pytest.param(
            [[(5, 100), (5, 100)]] * 5,
            2,
            1.0,
            id="pods that agree are not below the binomial",
        ),
        pytest.param(
            [[(10, 100), (0, 100)]] * 10,
            2,
            (20 * 2 * 25 / 4.75 + 12) / 30,
            id="pods that differ",
        ),
        pytest.param(
            [[(0, 3), (1, 300)]],
            2,
            (1.2 * 10 + 2 * (1 - 300 / 303) ** 2 / (300 / 303 * 302 / 303)) / 11,
            id="a cell with too little in it is left out",
        ),
    ],
)
def test_dispersion_is_shrunk_towards_the_usual(windows, pods, wanted):
    assert dispersion(windows, pods) == pytest.approx(wanted)
