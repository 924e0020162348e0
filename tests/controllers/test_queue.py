"""The work queue, against a model that is simple enough to be believed."""

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from modelops.controllers.queue import Queue

KEYS = st.sampled_from("abcd")


class Model(RuleBasedStateMachine):
    """A list of waiting keys, two sets, and one wake-up per key."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.queue = Queue(lambda: self.now, lambda low, high: 0.0)
        self.waiting: list[str] = []
        self.processing: set[str] = set()
        self.again: list[str] = []
        self.due: dict[str, float] = {}
        self.held: dict[str, float] = {}

    def is_held(self, key):
        """Return whether the server asked to leave *key* alone, and see to its wake-up then."""
        if self.held.get(key, 0.0) <= self.now:
            return False
        self.due[key] = min(self.due.get(key, 1e9), self.held[key])
        return True

    def ask(self, key):
        if key in self.waiting or key in self.again or self.is_held(key):
            return
        if key in self.processing:
            if key not in self.again:
                self.again.append(key)
        elif key not in self.waiting:
            self.waiting.append(key)

    @rule(key=KEYS)
    def add(self, key):
        self.queue.add(key)
        self.ask(key)

    @rule(key=KEYS, seconds=st.integers(-1, 20))
    def add_after(self, key, seconds):
        self.queue.add_after(key, seconds)
        if seconds <= 0:
            self.ask(key)
        else:
            self.due[key] = min(self.due.get(key, 1e9), self.now + seconds)

    @rule(key=KEYS, seconds=st.integers(1, 20))
    def hold(self, key, seconds):
        self.queue.hold(key, seconds)
        self.held[key] = self.now + seconds
        self.due[key] = min(self.due.get(key, 1e9), self.now + seconds)

    @rule(seconds=st.integers(1, 15))
    def time_passes(self, seconds):
        self.now += seconds

    @rule()
    def take(self):
        for key in sorted((key for key in self.due if self.due[key] <= self.now), key=self.due.__getitem__):
            del self.due[key]
            self.ask(key)
        taken = self.queue.take()
        if taken is None:
            assert not self.waiting
            return
        assert taken in self.waiting
        assert taken not in self.processing
        self.waiting.remove(taken)
        self.processing.add(taken)
        self.due.pop(taken, None)
        self.held.pop(taken, None)

    @rule(key=KEYS)
    def done(self, key):
        if key not in self.processing:
            return
        self.queue.done(key)
        self.processing.discard(key)
        if key in self.again:
            self.again.remove(key)
            if not self.is_held(key):
                self.waiting.append(key)

    @rule(key=KEYS)
    def purge(self, key):
        self.queue.purge(key)
        self.due.pop(key, None)
        self.held.pop(key, None)

    @invariant()
    def holds_what_the_model_holds(self):
        waiting, dirty, processing, wake_ups, held, failures, wishes, timed = self.queue.sizes
        assert (waiting, dirty) == (len(self.waiting), len(self.waiting) + len(self.again))
        assert (processing, wake_ups, failures, wishes) == (len(self.processing), len(self.due), 0, 0)
        assert held == len(self.held)
        assert timed <= dirty + processing

    @invariant()
    def knows_the_next_wake_up(self):
        wanted = max(0.0, min(self.due.values()) - self.now) if self.due else None
        assert self.queue.next_wake_up() == wanted


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAgainstAModel = Model.TestCase


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def queue(clock):
    return Queue(lambda: clock[0], lambda low, high: high)


def test_keys_come_in_the_order_in_which_they_were_added(queue):
    for key in "bab":
        queue.add(key)
    assert (queue.take(), queue.take(), queue.take()) == ("b", "a", None)


def test_a_key_added_while_it_is_processed_runs_once_more_afterwards(queue):
    queue.add("a")
    assert queue.take() == "a"
    queue.add("a")
    queue.add("a")
    assert queue.take() is None
    queue.done("a")
    assert queue.take() == "a"
    queue.done("a")
    assert queue.take() is None


def test_a_key_that_the_server_wants_left_alone_is_not_given_out_before_whatever_happens(queue, clock):
    queue.add("a")
    assert queue.take() == "a"
    queue.add("a")  # what the pass wrote has woken it
    queue.hold("a", 7)
    queue.done("a")
    queue.add("a")
    queue.add_after("a", 1)
    clock[0] = 6.9
    assert queue.take() is None
    clock[0] = 7.0
    assert queue.take() == "a"


def test_a_failing_key_waits_twice_as_long_each_time_up_to_five_minutes(queue, clock):
    pauses = []
    for _ in range(20):
        pauses.append(queue.add_backoff("a"))
        clock[0] += 1000
        queue.done(queue.take())
    assert pauses[:3] == pytest.approx([0.006, 0.012, 0.024])  # 5, 10, 20 ms and 20 % jitter
    assert pauses[-1] == pytest.approx(360)
    queue.forget("a")
    assert queue.add_backoff("a") == pytest.approx(0.006)


def test_the_age_is_that_of_the_oldest_key(queue, clock):
    assert queue.age == 0
    queue.add("a")
    clock[0] = 3.0
    queue.add("b")
    assert (queue.age, queue.depth) == (3.0, 2)


def test_get_wakes_for_a_key_and_for_a_wake_up_and_for_the_end():
    async def story():
        queue = Queue()
        getting = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add("a")
        assert await getting == "a"
        queue.add_after("b", 0.01)
        assert await queue.get() == "b"
        getting = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.shut()
        assert await getting is None
        queue.add("c")
        assert await queue.get() is None

    asyncio.run(story())


def test_two_workers_share_the_keys_and_neither_starves():
    async def story():
        queue = Queue()
        taken = []

        async def work(name):
            while (key := await queue.get()) is not None:
                taken.append((name, key))
                await asyncio.sleep(0)
                queue.done(key)
                if len(taken) == 20:
                    queue.shut()

        workers = [asyncio.create_task(work(name)) for name in "xy"]
        await asyncio.sleep(0)
        for key in range(20):
            queue.add(key)
        await asyncio.gather(*workers)
        assert sorted(key for _, key in taken) == list(range(20))
        assert {name for name, _ in taken} == {"x", "y"}

    asyncio.run(story())


def test_ten_thousand_keys_that_came_and_went_leave_nothing(queue):
    for key in range(10_000):
        queue.add(key)
        queue.add_after(key, 60)
        queue.add_backoff(key)
    while (key := queue.take()) is not None:
        queue.purge(key)
        queue.done(key)
    assert queue.next_wake_up() is None
    assert set(queue.sizes) == {0}


def test_a_wish_for_many_comes_true_once_and_asks_who_is_meant_then():
    now = 0.0
    queue = Queue(lambda: now)
    meant = ["a"]
    for _ in range(3):
        queue.add_all_after(1.0, "waiting", lambda: meant)
    assert (queue.take(), queue.next_wake_up()) == (None, 1.0)
    meant.append("b")
    now = 1.0
    assert [queue.take(), queue.take(), queue.take()] == ["a", "b", None]
    assert queue.next_wake_up() is None


def test_the_more_a_wish_brought_the_longer_the_next_one_waits():
    now = 0.0
    queue = Queue(lambda: now)
    many = range(500)
    queue.add_all_after(1.0, "waiting", lambda: many)
    now = 1.0
    assert queue.take() == 0
    queue.add_all_after(1.0, "waiting", lambda: many)
    assert queue.next_wake_up() == 5.0
    queue.add_all_after(1.0, "others", lambda: many)
    assert queue.next_wake_up() == 1.0


def test_wake_ups_that_were_overtaken_do_not_pile_up():
    now = 0.0
    queue = Queue(lambda: now)
    for number in range(5000):
        queue.add_after("a", 600.0)
        queue.add("a")
        queue.take()
        queue.done("a")
        now = number * 0.01
    assert queue.next_wake_up() is None
    queue.add_after("a", 600.0)
    assert len(queue._heap) == 1
