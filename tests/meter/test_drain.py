"""When nothing is open any more, with time as an argument."""

from modelops.meter.drain import Flow


def flow() -> Flow:
    return Flow(grace_seconds=5.0, quiet_seconds=1.0)


def test_an_idle_pod_serves_the_grace_first():
    assert flow().drained_in(100.0, 100.0) == 5.0
    assert flow().drained_in(100.0, 105.0) == 0.0


def test_nobody_knows_while_an_answer_is_open():
    seen = flow()
    seen.arrive(90.0)
    assert seen.drained_in(100.0, 900.0) is None
    seen.leave(900.0)
    assert seen.drained_in(100.0, 900.0) == 1.0
    assert seen.drained_in(100.0, 901.0) == 0.0


def test_a_late_request_starts_the_quiet_time_again():
    seen = flow()
    seen.arrive(104.9)
    seen.leave(104.9)
    assert round(seen.drained_in(100.0, 105.0) or 0, 6) == 0.9


def test_after_a_finished_wait_the_grace_is_not_served_twice():
    seen = flow()
    seen.waited(100.0)
    assert seen.leaving_since(160.0) == 100.0
    assert seen.drained_in(seen.leaving_since(160.0), 160.0) == 0.0


def test_a_wait_that_was_not_the_end_shortens_no_grace():
    seen = flow()
    seen.waited(100.0)
    seen.arrive(101.0)
    seen.leave(102.0)
    assert seen.leaving_since(160.0) == 160.0
