"""Numbers of pods, shares of requests, and what a count says about them."""

from math import erfc, sqrt

import pytest

from modelops.rollouts.capacity import candidate_pods, stable_pods
from modelops.rollouts.state import Rollout, Room
from modelops.rollouts.traffic import TOO_UNLIKELY, measured_percent, mismatch, strays

DYNAMIC, SPLIT, RECREATE = Room.DYNAMIC_STABLE, Room.SPLIT, Room.RECREATE


@pytest.mark.parametrize(
    ("room", "replicas", "weight", "candidate", "stable"),
    [
        pytest.param(Room.SURGE, 10, 10, 2, 10, id="9.3 Surge: ceil(N w / (1 - w)) beside all of stable"),
        pytest.param(Room.SURGE, 10, 90, 10, 10, id="9.3 Surge: at most N"),
        pytest.param(Room.SURGE, 1, 5, 1, 1, id="9.3 Surge: at least one"),
        pytest.param(DYNAMIC, 10, 25, 3, 8, id="9.3 DynamicStable: ceil(w N) and ceil((1 - w) N)"),
        pytest.param(DYNAMIC, 1, 50, 1, 1, id="9.3 DynamicStable: one pod each"),
        pytest.param(SPLIT, 10, 10, 1, 9, id="S64 Replicas: one of ten"),
        pytest.param(SPLIT, 3, 10, 1, 3, id="S64 Replicas: a fourth pod for less than half a pod"),
        pytest.param(SPLIT, 2, 75, 2, 1, id="Replicas: stable keeps a pod while it has a share"),
        pytest.param(SPLIT, 4, 50, 2, 2, id="Replicas: half of four"),
        pytest.param(RECREATE, 3, 100, 3, 0, id="9.3 Recreate: all, and none of stable"),
    ],
)
def test_pods_of_both_roles(room, replicas, weight, candidate, stable):
    state = Rollout(room=room, capacity=weight, stable_capacity=100 - weight if room != "Surge" else 100)
    assert (candidate_pods(state, replicas), stable_pods(state, replicas)) == (candidate, stable)


def test_recreate_has_no_candidate_pod_before_stable_is_gone():
    assert candidate_pods(Rollout(room=RECREATE, capacity=0, stable_capacity=0), 3) == 0


@pytest.mark.parametrize(
    ("canary", "stable", "weight", "chi2"),
    [
        pytest.param(50, 950, 5, 0.0, id="exactly as told"),
        pytest.param(80, 920, 5, 900 / 47.5, id="8 % of 1000 instead of 5 %"),
        pytest.param(60, 940, 5, 100 / 47.5, id="6 % of 1000 instead of 5 %"),
        pytest.param(0, 0, 5, 0.0, id="no request says nothing"),
        pytest.param(10, 0, 100, 0.0, id="everything says nothing"),
    ],
)
def test_a_split_is_compared_with_the_weight(canary, stable, weight, chi2):
    assert mismatch(canary, stable, weight) == pytest.approx(chi2)


@pytest.mark.parametrize(
    ("canary", "stable", "weight", "is_wrong"),
    [
        pytest.param(80, 920, 5, True, id="8 % of 1000 instead of 5 %"),
        pytest.param(60, 940, 5, False, id="6 % of 1000 instead of 5 % may be chance"),
        pytest.param(600, 9_400, 5, True, id="6 % of 10 000 is not"),
        pytest.param(5_900, 94_100, 5, False, id="5.9 % of 100 000 is no chance, and precise enough"),
        pytest.param(46_000, 54_000, 50, False, id="46 % instead of 50 % is precise enough"),
        pytest.param(44_000, 56_000, 50, True, id="44 % instead of 50 % is not"),
        pytest.param(0, 400, 5, True, id="nothing of 400 instead of 5 %"),
        pytest.param(0, 200, 5, False, id="nothing of 200 may be chance"),
        pytest.param(0, 0, 5, False, id="no request says nothing"),
    ],
)
def test_a_split_is_wrong_by_more_than_chance_and_by_more_than_a_little(canary, stable, weight, is_wrong):
    assert strays(canary, stable, weight) is is_wrong


def test_the_bar_of_a_wrong_split_is_exceeded_once_in_ten_thousand_times():
    assert erfc(sqrt(TOO_UNLIKELY / 2)) == pytest.approx(1e-4, rel=0.03)


@pytest.mark.parametrize(("canary", "stable", "percent"), [(1, 3, 25.0), (0, 5, 0.0), (0, 0, None)])
def test_the_measured_share(canary, stable, percent):
    assert measured_percent(canary, stable) == percent
