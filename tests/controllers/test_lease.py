"""The elector: at most one leader, whatever the network and the clocks do."""

import asyncio
import copy
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from modelops.clients.errors import Ambiguous, Conflict, NotFound, Unavailable
from modelops.controllers.lease import LEASE_API, Elector, Timing
from modelops.plan import Ref

LEASE = Ref(LEASE_API, "Lease", "ops", "modelops")
WALL = datetime(2026, 1, 1, tzinfo=UTC)


class Cluster:
    """One Lease under compare-and-swap, and the time."""

    def __init__(self):
        self.now = 1000.0
        self.lease = None
        self.version = 0
        self.holders = []

    def write(self, manifest):
        self.version += 1
        self.lease = copy.deepcopy(manifest)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        spec = manifest["spec"]
        if spec["holderIdentity"] and self.holders[-1:] != [
            (spec["holderIdentity"], spec["leaseTransitions"])
        ]:
            self.holders.append((spec["holderIdentity"], spec["leaseTransitions"]))
        return copy.deepcopy(self.lease)


class Line:
    """How one candidate reaches the cluster: each request may be lost, and takes its time."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.before, self.after = 0.0, 0.0
        self.loses: str | None = None

    def _send(self, act):
        self.cluster.now += self.before
        if self.loses == "request":
            raise Unavailable("lost")
        done = act()
        self.cluster.now += self.after
        if self.loses == "answer":
            raise Ambiguous("lost")
        return done

    async def get_lease(self, wanted):
        def act():
            if self.cluster.lease is None:
                raise NotFound("absent")
            return copy.deepcopy(self.cluster.lease)

        return self._send(act)

    async def create_lease(self, manifest):
        def act():
            if self.cluster.lease is not None:
                raise Conflict("exists")
            return self.cluster.write(manifest)

        return self._send(act)

    async def replace_lease(self, manifest):
        def act():
            if manifest["metadata"]["resourceVersion"] != self.cluster.lease["metadata"]["resourceVersion"]:
                raise Conflict("somebody was first")
            return self.cluster.write(manifest)

        return self._send(act)


def candidate(cluster, name, jitter=1.0, **more):
    """Return an elector whose sleep moves the time of the cluster."""

    async def sleep(seconds):
        cluster.now += seconds

    more = {"sleep": sleep, "jitter": lambda low, high: jitter} | more
    line = Line(cluster)
    elector = Elector(line, LEASE, name, Timing(), monotonic=lambda: cluster.now, wall=lambda: WALL, **more)
    return elector, line


class Election(RuleBasedStateMachine):
    """Three candidates, a network that loses and delays, and processes that freeze."""

    @initialize()
    def begin(self):
        self.runner = asyncio.Runner()
        self.cluster = Cluster()
        self.candidates = [candidate(self.cluster, name) for name in "abc"]

    def teardown(self):
        self.runner.close()

    @rule(
        which=st.integers(0, 2),
        loses=st.sampled_from([None, None, None, "request", "answer"]),
        before=st.sampled_from([0, 0, 0.5, 4, 12]),
        after=st.sampled_from([0, 0, 0.5, 4, 12]),
    )
    def attempt(self, which, loses, before, after):
        elector, line = self.candidates[which]
        line.loses, line.before, line.after = loses, before, after
        self.runner.run(elector.attempt())

    @rule(seconds=st.sampled_from([0.1, 2, 3, 9, 10, 15, 40]))
    def time_passes(self, seconds):
        self.cluster.now += seconds

    @rule(which=st.integers(0, 2), loses=st.sampled_from([None, "answer"]))
    def release(self, which, loses):
        elector, line = self.candidates[which]
        line.loses, line.before, line.after = loses, 0, 0
        self.runner.run(elector.release())
        self.candidates[which] = candidate(self.cluster, f"{elector.identity}'")

    @precondition(lambda self: self.cluster.lease is not None)
    @rule()
    def somebody_annotates_the_lease(self):
        self.cluster.version += 1
        self.cluster.lease["metadata"]["resourceVersion"] = str(self.cluster.version)

    @invariant()
    def at_most_one_leads(self):
        if hasattr(self, "candidates"):
            assert sum(elector.leading for elector, _ in self.candidates) <= 1

    @invariant()
    def terms_rise_with_every_new_leader(self):
        if hasattr(self, "candidates"):
            terms = [term for _, term in self.cluster.holders]
            assert terms == sorted(terms)
            assert set(Counter(terms).values()) <= {1}


Election.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
TestElection = Election.TestCase


@given(seen_after=st.floats(0, 2.4), jitter=st.floats(1.0, 1.2))
@settings(deadline=None)
def test_a_leader_that_crashed_is_replaced_within_17_4_seconds_and_not_before_15(seen_after, jitter):
    async def story():
        cluster = Cluster()
        first, _ = candidate(cluster, "first")
        assert await first.attempt()
        renewed = cluster.now
        cluster.now += seen_after
        second, _ = candidate(cluster, "second", jitter)
        await second.acquire()
        assert 15 <= cluster.now - renewed <= 17.4 + 1e-6
        assert (first.leading, second.leading) == (False, True)
        assert second.term == 1

    asyncio.run(story())


def test_a_leader_that_cannot_renew_stops_at_its_deadline_before_anybody_else_may_lead():
    async def story():
        cluster = Cluster()
        first, line = candidate(cluster, "first")
        assert await first.attempt()
        start = cluster.now
        line.loses = "request"
        await first.keep()
        assert cluster.now - start == pytest.approx(10)
        line.loses = None
        assert not await first.attempt(), "lost is lost for good"

    asyncio.run(story())


def test_a_leader_renews_every_two_seconds_as_long_as_it_can():
    async def story():
        cluster = Cluster()
        first, line = candidate(cluster, "first")
        assert await first.attempt()
        start, version = cluster.now, cluster.version

        async def sleep(seconds):
            cluster.now += seconds
            if cluster.now - start > 100:
                line.loses = "request"

        first._sleep = sleep
        await first.keep()
        assert cluster.version - version == pytest.approx(50, abs=1)

    asyncio.run(story())


def test_validity_counts_from_before_the_request():
    async def story():
        cluster = Cluster()
        elector, line = candidate(cluster, "first")
        line.after = 4.0
        start = cluster.now
        assert await elector.attempt()  # two requests of four seconds
        cluster.now = start + 9.9
        assert elector.leading
        cluster.now = start + 10
        assert not elector.leading

    asyncio.run(story())


def test_a_released_lease_is_taken_at_once():
    async def story():
        cluster = Cluster()
        first, _ = candidate(cluster, "first")
        second, _ = candidate(cluster, "second")
        assert await first.attempt()
        assert not await second.attempt()
        await first.release()
        assert not first.leading
        assert await second.attempt()
        assert second.term == 1

    asyncio.run(story())


def test_a_leader_whose_lease_was_taken_by_hand_stops_at_once():
    async def story():
        cluster = Cluster()
        first, _ = candidate(cluster, "first")
        assert await first.attempt()
        cluster.version += 1
        cluster.lease["metadata"]["resourceVersion"] = str(cluster.version)
        cluster.lease["spec"]["holderIdentity"] = "somebody"
        assert not await first.attempt()
        assert not first.leading

    asyncio.run(story())


def test_a_hanging_request_ends_at_half_of_the_deadline_so_that_there_is_a_second_try():
    async def story():
        cluster = Cluster()
        timing = Timing(timedelta(seconds=3), timedelta(seconds=0.4), timedelta(seconds=0.05))
        line = Line(cluster)
        elector = Elector(line, LEASE, "first", timing)
        assert await elector.attempt()

        async def hangs(wanted):
            await asyncio.sleep(60)

        line.get_lease = line.replace_lease = hangs
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert not await elector.attempt()
        assert 0.1 < loop.time() - start < 0.35
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await elector.keep()
        assert not elector.leading

    asyncio.run(story())
