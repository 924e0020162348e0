"""What holds for every load, every memory and every gap."""

import random
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as some

from modelops.scaling.decide import Room, Seen, decide
from modelops.scaling.load import CACHE, RUNNING, WAITING, Observed, Point
from modelops.scaling.memory import Change, Memory
from tests.scaling.world import LONG_AGO, NOW, STEP, Service, cache_of, in_force, no_end, room_for

LEAST, MOST = 2, 9
BOUNDS = {"minReplicas": LEAST, "maxReplicas": MOST}
WIRES = some.sampled_from(
    [
        BOUNDS,
        {**BOUNDS, "metric": "KVCacheUse"},
        {**BOUNDS, "metric": "QueuedRequests"},
        {**BOUNDS, "metric": "RequestsInFlight", "target": 20},
        {**BOUNDS, "scaleUp": {"stabilizationWindow": "0s"}, "scaleDown": {"stabilizationWindow": "1m"}},
        {**BOUNDS, "schedule": {"windows": [{"start": "08:00", "end": "10:00", "minReplicas": 4}]}},
    ]
)
NUMBERS = some.floats(0, 200, allow_nan=False)
POD = some.fixed_dictionaries({CACHE: some.floats(0, 100), WAITING: some.integers(0, 80), RUNNING: NUMBERS})
PODS = some.lists(POD, min_size=1, max_size=8)
CODES = some.sampled_from(["Started", "WithinTarget", "AtMaximum", "WaitingForCapacity", "MetricsMissing"])


@some.composite
def memories(draw, least=0, most=12) -> Memory:
    number = draw(some.integers(least, most))
    changes, before = [], number
    for ago in sorted(draw(some.lists(some.integers(1, 4000), max_size=10))):
        after, before = before, draw(some.integers(1, 12))
        code = "ScaledUp" if after > before else "ScaledDown"
        changes.append(Change(NOW - timedelta(seconds=ago), before, after, code, ""))
    return Memory(number, draw(CODES), "chat: so", LONG_AGO, tuple(reversed(changes)))


@some.composite
def observations(draw, pods=PODS) -> Observed:
    """Return 30 points of pods whose load differs from point to point by a common factor."""
    base = draw(pods)
    factors = draw(some.lists(some.floats(0.2, 2), min_size=30, max_size=30))
    points = tuple(
        Point(
            NOW - STEP * (29 - i),
            {f"p{n}": {k: v * factor for k, v in pod.items()} for n, pod in enumerate(base)},
        )
        for i, factor in enumerate(factors)
    )
    return Observed(points, STEP)


def looking(observed: Observed | None, **more) -> Seen:
    pods = observed.points[-1].pods if observed and observed.points else {}
    return Seen("chat", dict.fromkeys(pods, LONG_AGO), observed=observed, **more)


@given(WIRES, memories(), some.none() | observations(), some.integers(0, 12), some.booleans())
def test_the_number_is_within_the_bounds(wire, memory, observed, room, is_rolling):
    looked = looking(observed, is_rolling=is_rolling)
    assert LEAST <= decide(looked, in_force(wire), memory, NOW, room_for(room)).replicas <= MOST


@given(WIRES, memories(), some.none() | observations(), some.integers(0, 12))
def test_deciding_again_from_what_was_decided_changes_nothing(wire, memory, observed, pods):
    looked, rules = looking(observed), in_force(wire)
    first = decide(looked, rules, memory, NOW, room_for(pods))
    again = decide(looked, rules, first.memory, NOW, room_for(pods))
    assert (again.memory, again.events, again.after) == (first.memory, (), first.after)


@given(
    some.sampled_from(["KVCacheUse", "RequestsInFlight"]),
    memories(LEAST, MOST),
    observations(),
    some.floats(1, 5),
)
def test_more_load_never_means_fewer(metric, memory, observed, factor):
    rules = in_force({**BOUNDS, "metric": metric, "target": 20})
    more = replace(
        observed,
        points=tuple(
            Point(p.at, {name: {k: v * factor for k, v in pod.items()} for name, pod in p.pods.items()})
            for p in observed.points
        ),
    )
    low, high = (decide(looking(o), rules, memory, NOW, no_end).replicas for o in (observed, more))
    assert low <= high


@given(memories(LEAST, MOST), observations(), some.integers(0, 100))
def test_a_longer_queue_never_means_fewer(memory, observed, added):
    rules = in_force({**BOUNDS, "metric": "QueuedRequests"})
    more = replace(
        observed,
        points=tuple(
            Point(p.at, {n: {**pod, WAITING: pod[WAITING] + added} for n, pod in p.pods.items()})
            for p in observed.points
        ),
    )
    low, high = (decide(looking(o), rules, memory, NOW, no_end).replicas for o in (observed, more))
    assert low <= high


@given(WIRES, memories(LEAST, MOST), observations(), some.data())
def test_a_missing_sample_never_means_fewer(wire, memory, observed, data):
    """Samples go from pods that are ready: from whole points, whole pods, or here and there."""
    rules, looked = in_force(wire), looking(observed)
    lost = data.draw(
        some.sets(some.tuples(some.integers(10, 29), some.sampled_from(sorted(looked.ready))), min_size=1)
    )
    points = tuple(
        Point(p.at, {name: pod for name, pod in p.pods.items() if (i, name) not in lost})
        for i, p in enumerate(observed.points)
    )
    partly = replace(looked, observed=replace(observed, points=points))
    whole = decide(looked, rules, memory, NOW, no_end).replicas
    assert decide(partly, rules, memory, NOW, no_end).replicas >= min(whole, memory.replicas)


@given(
    WIRES, memories(LEAST, MOST), observations(), some.sampled_from(["away", "stale", "nothing", "all lost"])
)
def test_without_data_no_pod_goes(wire, memory, observed, how):
    match how:
        case "away":
            seen = replace(observed, away_since=NOW)
        case "stale":
            old = tuple(replace(p, at=p.at - timedelta(minutes=2)) for p in observed.points)
            seen = replace(observed, points=old)
        case "nothing":
            seen = None
        case _:
            seen = replace(observed, points=tuple(Point(p.at, {}) for p in observed.points))
    looked = replace(looking(observed), observed=seen)
    found = decide(looked, in_force(wire), memory, NOW, no_end)
    assert found.replicas >= memory.replicas
    added = found.memory.history[-1:] != memory.history[-1:]
    assert not added or found.memory.history[-1].code == "Scheduled"


@given(WIRES, memories(LEAST, MOST), observations(), some.integers(0, 12))
def test_load_adds_no_more_than_there_is_room_for(wire, memory, observed, pods):
    def room(current: int, wanted: int) -> Room:
        return Room(max(current, min(wanted, pods)), "a GPU")

    found = decide(looking(observed), in_force(wire), memory, NOW, room)
    assert found.replicas <= max(memory.replicas, pods)


@given(memories())
def test_a_memory_that_is_written_is_read_as_it_was(memory):
    assert Memory.read(memory.to_status()) == memory


@settings(max_examples=25, deadline=None)
@given(some.integers(2, 8), some.floats(-0.99, 0.99), some.integers(0, 2**32))
def test_noise_within_the_tolerance_changes_nothing(replicas, where, seed):
    """The load of so many pods at their target, give or take a tenth, for half an hour."""
    noise = random.Random(seed)

    def load(minutes: float) -> float:
        return 70 * replicas * (1 + 0.05 * where + 0.049 * noise.uniform(-1, 1))

    rules = in_force({"minReplicas": 1, "maxReplicas": 12, "metric": "KVCacheUse"})
    service = Service(rules, cache_of(load)).at_rest(replicas).run(30)
    assert set(service.numbers) == {replicas}


@settings(max_examples=12, deadline=None)
@given(some.floats(40, 700), some.integers(0, 2**32), some.integers(1, 9))
def test_noise_around_any_steady_load_swings_no_number(mean, seed, replicas):
    """Whatever it starts from, it finds a number and stays; up it goes at most once more for the noise."""
    noise = random.Random(seed)
    rules = in_force({"minReplicas": 1, "maxReplicas": 12, "metric": "KVCacheUse"})
    load = cache_of(lambda minutes: mean * (1 + 0.1 * noise.uniform(-1, 1)))
    service = Service(rules, load).at_rest(replicas).run(60)
    late = service.numbers[-80:]
    ups = sum(b > a for a, b in pairwise(late))
    downs = sum(b < a for a, b in pairwise(late))
    assert ups == 0 or downs == 0, late
