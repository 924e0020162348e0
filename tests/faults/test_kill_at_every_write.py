"""S65: kill or freeze the leader at every write of every story: one end, and nobody's request is lost.

The default run takes some writes of each story; ``--all-faults`` takes every one (``make test-faults``).
"""

from functools import cache

import pytest

from tests.fakeapi.requests import Asked
from tests.faults.campaign import Blow, Injection, Outcome, run
from tests.faults.stories import STORIES, Story

BY_NAME = {story.name: story for story in STORIES}


@cache
def untouched(name: str) -> Outcome:
    """Return the story with an operator that nobody touches."""
    return run(BY_NAME[name])


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_story_ends_without_an_outage_and_begins_without_a_write(story: Story):
    outcome = untouched(story.name)
    assert outcome.outages == []
    assert outcome.log == [], "who starts from what is stored has nothing to write"
    assert outcome.leaders == 1


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_an_operator_that_is_struck_at_a_write_ends_where_it_would_have_ended(
    story: Story, all_faults: bool, capsys: pytest.CaptureFixture[str]
):
    injections = _injections(story, len(untouched(story.name).writes), whole=all_faults)
    outcomes = {str(injection): run(story, injection) for injection in injections}
    struck = sum(outcome.is_hit for outcome in outcomes.values())
    with capsys.disabled():
        print(f" {story.name}: {struck} of {len(injections)} injection points struck", end="")
    wrong = {name: found for name, outcome in outcomes.items() if (found := _wrong(story, outcome))}
    assert wrong == {}
    # A write that is refused has no "after", and two writes may meet in one.
    assert struck >= 0.95 * len(injections) - 1


def _injections(story: Story, writes: int, *, whole: bool) -> list[Injection]:
    blows = list(Blow)
    if whole:
        return [Injection(blow, write) for blow in blows for write in range(writes)]
    first = STORIES.index(story)  # another blow begins each story, so that all meet every kind of write
    step = max(1, writes // story.few)
    return [
        Injection(blows[(first + number) % len(blows)], write)
        for number, write in enumerate(range(0, writes, step))
    ][: story.few]


def _wrong(story: Story, outcome: Outcome) -> list[str]:
    """Return what a blow changed that it must not."""
    base = untouched(story.name)
    out = [f"{place}: ends as another" for place in _differences(base.final, outcome.final)]
    out += outcome.outages
    return out + [
        f"a stale leader's write landed: {write}" for write in outcome.stale if not _may_be_late(write)
    ]


def _differences(one: dict[str, object], other: dict[str, object]) -> list[str]:
    return sorted(place for place in {*one, *other} if one.get(place) != other.get(place))


def _may_be_late(write: Asked) -> bool:
    """Return whether a request that was on the wire for longer than the Lease may still do something.

    Never one that writes a status or a route.  Another write names the version that it was planned from,
    and lands only where nobody has written since; the first apply of a child has no version to name, and
    the next leader puts it right.  Events are news, not state.
    """
    if write.subresource or write.kind == "HTTPRoute":
        return False
    return write.kind == "Event" or write.verb == "apply" or (write.verb == "delete" and bool(write.version))
