"""The elector on a real connection under faults: the table of the notes on the loop, section 6."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise

import pytest

from modelops.clients.kube import Kube
from modelops.controllers.lease import LEASE_API, Elector, Timing
from modelops.plan import Ref
from tests.fakeapi import answers
from tests.fakeapi.api import FakeApi
from tests.faults import virtual

LEASE = Ref(LEASE_API, "Lease", "ops", "modelops")
TIMING = Timing(timedelta(seconds=15), timedelta(seconds=10), timedelta(seconds=2))
LOOK_SECONDS = 0.1


@dataclass
class Candidate:
    """A process that wants to lead; it ends when the Lease is lost, and another takes its place."""

    kube: Kube
    elector: Elector
    task: "asyncio.Task[None]"


@dataclass
class Election:
    """Candidates, and who led when."""

    api: FakeApi
    timing: Timing = TIMING
    candidates: list[Candidate] = field(default_factory=list)
    most: int = 0
    """Most leaders at one instant."""
    terms: list[tuple[str, int]] = field(default_factory=list)
    spans: dict[str, list[float]] = field(default_factory=dict)
    """When each began to lead, and when it was last seen leading."""

    def add(self, name: str) -> Candidate:
        loop = asyncio.get_running_loop()
        kube = Kube(self.api.configuration(name))
        elector = Elector(kube, LEASE, name, self.timing, monotonic=loop.time, wall=self.api.now)

        async def live() -> None:
            await elector.acquire()
            await elector.keep()

        self.candidates.append(Candidate(kube, elector, loop.create_task(live(), name=name)))
        return self.candidates[-1]

    async def watch(self) -> None:
        """Look who leads, for ever."""
        while True:
            leading = [c.elector for c in self.candidates if c.elector.leading]
            self.most = max(self.most, len(leading))
            for elector in leading:
                term = (elector.identity, elector.term or 0)
                if term not in self.terms:
                    self.terms.append(term)
                self.spans.setdefault(elector.identity, [self.api.seconds(), 0.0])[1] = self.api.seconds()
            await asyncio.sleep(LOOK_SECONDS)

    async def close(self) -> None:
        for candidate in self.candidates:
            candidate.task.cancel()
            await asyncio.wait([candidate.task])
            await candidate.kube.close()


def elect(story: Callable[[Election], Awaitable[None]], timing: Timing = TIMING) -> Election:
    """Run an election in virtual time and return what was seen."""

    async def main() -> Election:
        async with FakeApi(monotonic=asyncio.get_running_loop().time) as api:
            election = Election(api, timing)
            watching = asyncio.create_task(election.watch())
            try:
                await story(election)
                await asyncio.sleep(2 * LOOK_SECONDS)
            finally:
                watching.cancel()
                await election.close()
            return election

    return virtual.run(main())


def rises(terms: list[tuple[str, int]]) -> bool:
    numbers = [number for _, number in terms]
    return numbers == sorted(set(numbers))


FAULTS = {
    "dropped connections": {"drops": True},
    "answers that are dropped after the commit": {"drops": True, "is_after": True},
    "requests that hang": {"hangs": True},
    "503": {"refusal": answers.busy(503)},
    "403": {"refusal": answers.forbidden("first", "update", "leases")},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_leader_that_cannot_renew_stops_in_time_and_is_replaced_without_overlap(fault):
    async def story(election: Election) -> None:
        first, second = election.add("first"), election.add("second")
        await asyncio.sleep(30)
        election.api.fail(kind="Lease", identity="first", **fault)
        begun = election.api.seconds()
        await first.task
        assert election.api.seconds() - begun <= 10.2, "lost at the renew deadline"
        while not second.elector.leading:
            await asyncio.sleep(LOOK_SECONDS)
        # After a commit whose answer was lost, the record was still renewed once.
        assert 12 <= election.api.seconds() - begun <= 17.5 + 2.5
        assert not first.elector.leading

    seen = elect(story)
    assert seen.most == 1
    assert [name for name, _ in seen.terms] == ["first", "second"]
    assert rises(seen.terms)
    assert seen.spans["first"][1] < seen.spans["second"][0]


def test_a_leader_whose_requests_take_three_seconds_goes_on():
    async def story(election: Election) -> None:
        election.add("first")
        await asyncio.sleep(5)
        election.add("second")
        election.api.fail(kind="Lease", delay=3.0)
        await asyncio.sleep(300)

    seen = elect(story)
    assert [name for name, _ in seen.terms] == ["first"]
    assert seen.spans["first"][1] > 1299


def test_a_released_lease_is_taken_within_the_retry_pause():
    async def story(election: Election) -> None:
        first, second = election.add("first"), election.add("second")
        await asyncio.sleep(30)
        leader, other = (first, second) if first.elector.leading else (second, first)
        leader.task.cancel()
        await leader.elector.release()
        begun = election.api.seconds()
        while not other.elector.leading:
            await asyncio.sleep(LOOK_SECONDS)
        assert election.api.seconds() - begun <= 2.4 + 0.2

    seen = elect(story)
    assert seen.most == 1
    assert rises(seen.terms)


def test_a_leader_that_dies_is_replaced_in_15_to_17_4_seconds():
    async def story(election: Election) -> None:
        first = election.add("first")
        await asyncio.sleep(5)
        second = election.add("second")
        await asyncio.sleep(25)
        first.task.cancel()
        renewed = max(e.at for e in election.api.log.writes("first", but=()))
        while not second.elector.leading:
            await asyncio.sleep(LOOK_SECONDS)
        assert 15 <= election.api.seconds() - renewed <= 17.4 + 0.2

    assert elect(story).most == 1


def test_five_candidates_under_many_faults_never_lead_at_once_and_terms_rise():
    """Leaders are killed, released, cut off, hung and slowed down; each that ends comes back as another."""
    chance = random.Random(11)

    async def story(election: Election) -> None:
        for number in range(5):
            election.add(f"c{number}")
        born = 5
        for _ in range(50):
            await asyncio.sleep(chance.uniform(3, 9))
            leader = next((c for c in election.candidates if c.elector.leading), None)
            if leader is None:
                continue
            name = leader.elector.identity
            match chance.randrange(5):
                case 0:
                    leader.task.cancel()
                    await leader.elector.release()
                case 1:
                    leader.task.cancel()
                case kind:
                    fault = list(FAULTS.values())[kind - 2]
                    election.api.fail(kind="Lease", identity=name, times=chance.randrange(2, 12), **fault)
            election.add(f"c{born}")
            born += 1
        election.api.faults.lift()
        await asyncio.sleep(40)

    seen = elect(story)
    assert seen.most == 1
    assert len(seen.terms) >= 20
    assert rises(seen.terms)
    spans = sorted(seen.spans.values())
    assert all(one[1] < other[0] for one, other in pairwise(spans)), "no overlap"
