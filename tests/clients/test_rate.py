"""The token bucket: bursts pass, then one at a time."""

from hypothesis import given
from hypothesis import strategies as st

from modelops.clients.rate import TokenBucket


def test_a_burst_passes_and_the_rest_wait_their_turn():
    bucket = TokenBucket(per_second=2, burst=3)
    assert [bucket.reserve(10.0) for _ in range(5)] == [0, 0, 0, 0.5, 1.0]


def test_tokens_come_back_but_never_more_than_the_burst():
    bucket = TokenBucket(per_second=1, burst=2)
    assert [bucket.reserve(0.0) for _ in range(2)] == [0, 0]
    assert [bucket.reserve(1000.0) for _ in range(3)] == [0, 0, 1]


@given(st.lists(st.floats(0, 3), max_size=50))
def test_within_any_second_no_more_pass_than_burst_and_rate(pauses):
    bucket, now, passed = TokenBucket(per_second=5, burst=4), 0.0, []
    for pause in pauses:
        now += pause
        passed.append(now + bucket.reserve(now))
    assert passed == sorted(passed)
    for start in passed:
        assert sum(start <= at < start + 1 for at in passed) <= 4 + 5 + 1
