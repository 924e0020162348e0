"""The bench's own parts: peers' rules, bounds, and the traffic it draws."""

import numpy as np
import pytest

from tests.bench.judge_cells import BY_NAME, CELLS
from tests.bench.judge_ours import START, Ours, cumulated, role_windows
from tests.bench.judge_peers import (
    CONTINUE,
    PROMOTE,
    ROLLBACK,
    TTFT_BOUNDS,
    Argo,
    Flagger,
    Limits,
    Usual,
    fails,
    quantile,
)
from tests.bench.judge_results import Share, is_more
from tests.bench.judge_runs import Block, peer
from tests.bench.judge_traffic import HISTORY, Role, canary_pods, draw_canary, draw_stable

GOOD, BAD = np.array([[False] * 3]), np.array([[True, False, False]])


def _words(tool, checks):
    return [int(tool.close(check, is_away=False)[0]) for check in checks]


def test_flagger_promotes_after_ten_good_checks():
    assert _words(Flagger(1), [GOOD] * 10) == [CONTINUE] * 9 + [PROMOTE]


def test_flagger_rolls_back_at_the_tick_after_the_fifth_failure():
    assert _words(Flagger(1), [BAD] * 4 + [GOOD, BAD, GOOD]) == [CONTINUE] * 6 + [ROLLBACK]


def test_flagger_keeps_its_weight_while_a_check_fails():
    tool = Flagger(1)
    weights = []
    for check in (GOOD, BAD, GOOD):
        tool.close(check, is_away=False)
        weights.append(int(tool.weights[0]))
    assert weights == [10, 10, 15]


def test_argo_aborts_when_one_metric_failed_more_than_three_times():
    assert _words(Argo(1), [BAD] * 4) == [CONTINUE] * 3 + [ROLLBACK]


def test_argo_counts_the_failures_of_each_metric():
    slow = np.array([[False, True, False]])
    assert _words(Argo(1), [BAD, slow] * 3) == [CONTINUE] * 6


def test_argo_promotes_after_thirty_windows():
    assert _words(Argo(1), [GOOD] * 30) == [CONTINUE] * 29 + [PROMOTE]


def test_argo_aborts_when_prometheus_is_away_for_a_window():
    assert Argo(1).close(GOOD, is_away=True)[0] == ROLLBACK


def test_no_requests_is_a_failed_check():
    assert fails(np.array([[np.nan, 1.0, 1.0]]), Limits(1, 0.01, 1.5, 1.5)).tolist() == [[True, False, False]]


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        pytest.param([0, 100, 0, 0], 0.195, id="inside a bucket, linearly"),
        pytest.param([0, 0, 0, 7], 0.4, id="past the last bound: the last bound"),
        pytest.param([90, 10, 0, 0], 0.15, id="over two buckets"),
        pytest.param([0, 0, 0, 0], np.nan, id="no requests: no number"),
    ],
)
def test_the_quantile_is_that_of_promql(counts, wanted):
    found = quantile(np.array([counts]), (0.1, 0.2, 0.4))
    assert np.allclose(found, [wanted], equal_nan=True)


@pytest.mark.parametrize(
    ("count", "runs", "low", "high"),
    [
        # Clopper and Pearson's bounds, as tabulated.
        pytest.param(0, 10, 0.0, 0.3085, id="none of ten"),
        pytest.param(5, 10, 0.1871, 0.8129, id="half of ten"),
        pytest.param(10, 10, 0.6915, 1.0, id="ten of ten"),
        pytest.param(0, 300, 0.0, 0.0122, id="none of 300"),
    ],
)
def test_bounds_are_exact(count, runs, low, high):
    share = Share.of_runs(count, runs)
    assert (round(share.low, 4), round(share.high, 4)) == (low, high)


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        # Fisher's exact test: 5 of 500 against none has p 0.031, 4 against none 0.062.
        pytest.param(5, 0, True, id="five of 500 is above none"),
        pytest.param(4, 0, False, id="four may be chance"),
        pytest.param(0, 5, False, id="fewer is never above"),
    ],
)
def test_one_share_is_above_another_only_beyond_chance(one, other, wanted):
    assert is_more(Share.of_runs(one, 500), Share.of_runs(other, 500)) is wanted


def test_a_canary_has_the_pods_of_surge():
    assert canary_pods(np.array([0, 5, 10, 25, 50, 100])).tolist() == [0, 1, 1, 3, 8, 8]


def test_traffic_has_the_rate_the_error_share_and_the_median_that_it_says():
    block = Block.of(BY_NAME["N1"], 0, 20, seed=1)
    rows = [row.summed() for row in block.history]
    requests = np.mean([row.requests for row in rows])
    errors = np.sum([row.errors for row in rows]) / np.sum([row.requests for row in rows])
    ttft = np.sum([row.ttft for row in rows], axis=(0, 1))
    below = np.cumsum(ttft)[TTFT_BOUNDS.index(0.25)] / ttft.sum()
    assert abs(requests - 300) < 3
    assert 0.0028 < errors < 0.0036
    assert 0.26 < below < 0.34  # PHI(ln(.25 / .35) / .6) is 0.287, the load spreads it


def test_the_same_seed_draws_the_same_runs():
    limits = Limits(5, 0.03, 2.0, 2.0)
    one, other = (Block.of(BY_NAME["R4"], 3, 5, seed=1) for _ in range(2))
    assert np.array_equal(one.history[7].ttft, other.history[7].ttft)
    usual = Usual.of(one.history)
    assert peer(one, usual, "Argo", "cal", limits) == peer(other, usual, "Argo", "cal", limits)


def test_coupled_pods_are_faster_with_less_load():
    block = Block.of(BY_NAME["N11"], 0, 20, seed=1)
    alone, half = np.zeros(20, dtype=np.int64), np.full(20, 50)
    args = (block.cell.traffic, block.weather, block.minutes[HISTORY], HISTORY)
    chance = np.random.default_rng(1)
    before = draw_stable(chance, *args, alone, np.arange(20))
    stable = draw_stable(chance, *args, half, np.arange(20))
    canary = draw_canary(chance, *args, half, np.arange(20))
    fast = [_share_below(role, 0.25) for role in (before, stable, canary)]
    assert fast[0] + 0.2 < min(fast[1:])
    assert abs(fast[1] - fast[2]) < 0.06


def _share_below(role: Role, bound: float) -> float:
    ttft = role.ttft.sum(axis=(0, 1))
    return float(np.cumsum(ttft)[TTFT_BOUNDS.index(bound)] / ttft.sum())


def test_our_machine_starts_at_the_first_step_and_rolls_a_broken_canary_back():
    block = Block.of(BY_NAME["R3"], 0, 1, seed=1)
    history = [cumulated(row) for row in block.history]
    run = Ours.of(history, 0)
    assert run.weight == 5
    assert run.state.step_at == START
    chance, only = np.random.default_rng(1), np.array([0])
    for t in range(4):
        weights = np.array([run.weight])
        args = (chance, block.cell.traffic, block.weather, block.minutes[HISTORY + t], HISTORY + t)
        stable, canary = draw_stable(*args, weights, only), draw_canary(*args, weights, only)
        pods = canary_pods(weights).tolist()
        run.close(t, role_windows(stable.summed(), [8])[0], role_windows(canary.summed(), pods)[0])
        if run.outcome:
            break
    assert run.outcome == "rollback"


def test_cells_have_names_of_their_own_and_know_an_hour_before_and_after():
    assert len(BY_NAME) == len(CELLS)
    assert {len(cell.windows()) for cell in CELLS} == {120}
    before = [cell.at(-1) for cell in CELLS]
    assert {(w.ttft, w.tpot, w.errors, w.tail) for w in before} == {(1.0, 1.0, 0.003, 0.01)}
