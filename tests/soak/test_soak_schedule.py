"""Which fault comes when."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from e2e.soak.schedule import APART, GAP, LASTS, Fault, schedule

SEEDS = st.integers(0, 2**32)


@given(SEEDS)
def test_a_seed_gives_the_same_faults_again_and_in_order(seed):
    once = schedule(seed, 600)
    assert once == schedule(seed, 600)
    assert [planned.at for planned in once] == sorted(planned.at for planned in once)
    assert all(0 < planned.at <= 600 for planned in once)


@given(SEEDS)
def test_ten_minutes_have_a_fault_every_few_seconds_and_every_kind_several_times(seed):
    faults = [planned.fault for planned in schedule(seed, 600)]
    assert len(faults) > 60
    assert min(faults.count(fault) for fault in Fault) >= 5


@given(SEEDS)
def test_kinds_come_equally_often_but_for_one(seed):
    faults = [planned.fault for planned in schedule(seed, 600)]
    counts = [faults.count(fault) for fault in Fault]
    assert max(counts) - min(counts) <= 1


@given(SEEDS)
def test_a_serving_pod_is_not_killed_before_the_last_one_can_be_back(seed):
    kills = [planned.at for planned in schedule(seed, 600) if planned.fault is Fault.SERVING_POD]
    assert all(later - earlier >= APART - 0.1 for earlier, later in pairwise(kills))


@given(SEEDS)
def test_nothing_comes_while_etcd_is_paused_and_only_lasting_faults_last(seed):
    planned = schedule(seed, 600)
    for one, after in pairwise(planned):
        if one.fault is Fault.ETCD:
            assert after.at >= one.at + one.seconds
        assert after.at - one.at >= GAP[0] - 0.1
        least, most = LASTS.get(one.fault, (0, 0))
        assert least <= one.seconds <= most
        assert 0 <= one.draw < 1


def test_other_seeds_give_other_faults():
    assert len({schedule(seed, 600) for seed in range(10)}) == 10
