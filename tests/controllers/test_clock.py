"""The clock of decisions: it follows the wall, and never jumps with it."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from modelops.controllers.clock import Clock

START = 1_800_000_000.0


class Machine:
    """A wall clock and a monotonic one that a test moves."""

    def __init__(self):
        self.wall, self.monotonic = START, 50.0
        self.clock = Clock(lambda: self.wall, lambda: self.monotonic)

    def pass_(self, seconds, jump=0.0):
        self.monotonic += seconds
        self.wall += seconds + jump


def test_it_begins_at_the_wall_clock():
    assert Machine().clock.now() == datetime.fromtimestamp(START, UTC)


def test_a_jump_of_the_wall_clock_changes_nothing_by_itself():
    machine = Machine()
    machine.pass_(10, jump=3600)
    assert machine.clock.now() == datetime.fromtimestamp(START + 10, UTC)
    assert machine.clock.offset() == timedelta(hours=1)


def test_after_that_it_runs_a_twentieth_faster_until_it_meets_the_wall_clock():
    machine = Machine()
    machine.pass_(0, jump=6)
    machine.clock.adjust()
    machine.pass_(100)
    assert machine.clock.now() == datetime.fromtimestamp(START + 105, UTC)
    machine.pass_(100)
    assert machine.clock.offset() == timedelta(0)


def test_a_clock_that_is_ahead_runs_slower_and_never_back():
    machine = Machine()
    machine.pass_(0, jump=-6)
    machine.clock.adjust()
    machine.pass_(100)
    assert machine.clock.now() == datetime.fromtimestamp(START + 95, UTC)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-1e5, 1e5), st.booleans()), max_size=30))
def test_it_never_goes_back_and_a_span_is_off_by_a_twentieth_at_most(steps):
    machine = Machine()
    before = machine.clock.now()
    for seconds, jump, adjusts in steps:
        machine.pass_(seconds, jump)
        if adjusts:
            machine.clock.adjust()
        now = machine.clock.now()
        assert now >= before
        before = now
    elapsed = sum(seconds for seconds, _, _ in steps)
    shown = before.timestamp() - START
    assert 0.95 * elapsed - 0.001 <= shown <= 1.05 * elapsed + 0.001
