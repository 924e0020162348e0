"""How many replicas, with numbers: what the load needs, what is missing, what stands in the way."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from modelops.plan import Reason
from modelops.scaling.decide import Room, decide, held
from modelops.scaling.load import CACHE, RUNNING, WAITING, Observed
from modelops.scaling.memory import Change, Memory
from tests.scaling.world import (
    NOW,
    STEP,
    Service,
    at,
    cache_of,
    in_force,
    no_end,
    point,
    room_for,
    seen,
    steady,
    without,
)

MINUTE = timedelta(minutes=1)
CACHED = {"minReplicas": 1, "maxReplicas": 8, "metrics": [{"name": "KVCacheUse", "target": 70}]}
QUEUED = {"minReplicas": 1, "maxReplicas": 8, "metrics": [{"name": "QueuedRequests", "target": 5}]}
BOTH = {"minReplicas": 1, "maxReplicas": 8}


def use(percent: float, waiting: float = 0, running: float = 10) -> dict[str, float]:
    return {CACHE: percent, WAITING: waiting, RUNNING: running}


# --- what the load needs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wire", "pods", "wanted"),
    [
        pytest.param(CACHED, [use(60), use(60)], 2, id="60 % is within a tenth of 70 %, no change"),
        pytest.param(CACHED, [use(76), use(76)], 2, id="76 % is within a tenth of 70 %, no change"),
        pytest.param(CACHED, [use(90), use(90)], 3, id="180 % needs 3 at 70 %"),
        pytest.param(CACHED, [use(100), use(40)], 2, id="140 % fits two, however it is spread"),
        pytest.param(CACHED, [use(30), use(30)], 1, id="60 % fits one"),
        pytest.param(CACHED, [use(0), use(0)], 1, id="no load is never less than minReplicas"),
        pytest.param(QUEUED, [use(50, 5), use(50, 5)], 2, id="a queue at its target changes nothing"),
        pytest.param(
            QUEUED, [use(50, 10), use(50, 10)], 3, id="10 waiting each of 10 running: 40 need 2 x 40/30"
        ),
        pytest.param(QUEUED, [use(50, 1), use(50, 0)], 2, id="while a request waits no pod goes"),
        pytest.param(QUEUED, [use(50), use(50)], 1, id="nobody waits: one fewer is tried"),
        pytest.param(
            BOTH, [use(20), use(20)], 1, id="with the cache known the queue says nothing about fewer"
        ),
        pytest.param(BOTH, [use(20, 1), use(20)], 2, id="of two metrics the one that wants more counts"),
        pytest.param(BOTH, [use(20, 30), use(20, 30)], 6, id="a long queue adds though the cache is empty"),
    ],
)
def test_what_the_load_needs_of_two_pods(wire, pods, wanted):
    found = decide(seen(steady(*pods), 2), in_force(wire), at(2), NOW, no_end)
    assert found.replicas == wanted, found.memory.message


def test_tokens_and_requests_are_counted_against_their_targets():
    tokens = {"minReplicas": 1, "maxReplicas": 9, "metric": "TokensInFlight", "target": 50_000}
    observed = steady({"tokens": 60_000}, {"tokens": 60_000})
    assert decide(seen(observed, 2), in_force(tokens, "SGLang"), at(2), NOW, no_end).replicas == 3
    requests = {"minReplicas": 1, "maxReplicas": 9}
    observed = steady({RUNNING: 5}, {RUNNING: 5})
    found = decide(seen(observed, 2), in_force(requests, "LlamaCpp", 4), at(2), NOW, no_end)
    assert found.replicas == 4, "4 slots: 3 requests each are the target"


def test_a_decision_says_its_numbers():
    found = decide(seen(steady(use(90), use(90)), 2), in_force(CACHED), at(2), NOW, no_end)
    message = "chat: 2 to 3 replicas: needs 3 by KVCacheUse 180 % in 2 pods, 70 % each"
    assert (found.memory.code, found.memory.message) == ("ScaledUp", message)
    assert found.memory.history == (Change(NOW, 2, 3, "ScaledUp", message),)
    assert [(event.type, event.reason, event.message) for event in found.events] == [
        ("Normal", "ScaledUp", message)
    ]


# --- stabilisation, rates, cooldown ------------------------------------------------------------------


def test_more_is_added_only_after_the_whole_window_asked_for_it():
    lately = steady(use(40), use(40))
    burst = replace(lately, points=(*lately.points[:-2], *steady(use(99), use(99), points=2).points))
    assert decide(seen(burst, 2), in_force(CACHED), at(2), NOW, no_end).replicas == 2
    longer = replace(lately, points=(*lately.points[:-3], *steady(use(99), use(99), points=3).points))
    assert decide(seen(longer, 2), in_force(CACHED), at(2), NOW, no_end).replicas == 3


def test_fewer_are_kept_only_after_the_whole_window_needed_fewer():
    idle = steady(use(10), use(10), points=21)
    busy = replace(idle, points=(point(idle.points[0].at, use(70), use(70)), *idle.points[1:]))
    assert decide(seen(busy, 2), in_force(CACHED), at(2), NOW, no_end).replicas == 2
    older = replace(busy, points=(*busy.points[1:], point(NOW + STEP, use(10), use(10))))
    assert decide(seen(older, 2), in_force(CACHED), at(2), NOW + STEP, no_end).replicas == 1


def test_a_service_that_is_measured_for_two_minutes_loses_no_pod():
    young = steady(use(1), use(1), points=9)
    assert decide(seen(young, 2), in_force(CACHED), at(2), NOW, no_end).replicas == 2


@pytest.mark.parametrize(
    ("ago", "wanted"),
    [
        pytest.param(10, 3, id="4 of 4 in this minute are used up"),
        pytest.param(61, 7, id="a minute later 4 more"),
    ],
)
def test_no_more_pods_come_in_a_period_than_allowed(ago, wanted):
    memory = at(3, history=(Change(NOW - timedelta(seconds=ago), 1, 3, "ScaledUp", ""),) * 2)
    found = decide(seen(steady(*[use(100, 50)] * 3), 3), in_force(CACHED | QUEUED), memory, NOW, no_end)
    assert found.replicas == wanted


def test_pods_go_one_a_minute_by_default():
    service = Service(in_force(CACHED), cache_of(lambda minutes: 10)).at_rest(5).run(12)
    gone = [change for change in service.memory.history if change.code == "ScaledDown"]
    assert [(change.before, change.after) for change in gone] == [(5, 4), (4, 3), (3, 2), (2, 1)]
    assert {b.at - a.at for a, b in pairwise(gone)} == {MINUTE}


def test_after_pods_came_none_goes_within_the_cooldown():
    wire = {**CACHED, "scaleDown": {"stabilizationWindow": "30s", "cooldown": "10m"}}
    service = Service(in_force(wire), cache_of(lambda m: 200 if m < 2 else 10)).at_rest(2).run(30)
    up = next(c for c in service.memory.history if c.code == "ScaledUp")
    down = next(c for c in service.memory.history if c.code == "ScaledDown")
    assert timedelta(minutes=10) <= down.at - up.at < timedelta(minutes=11)


def test_a_number_that_was_too_few_for_the_queue_is_not_tried_again_within_the_hour():
    """Two pods hold the load without a queue, one does not."""

    def load(service: list[Service]):
        return lambda minutes: {
            RUNNING: 20,
            WAITING: 0 if sum(since <= service[0].now for since in service[0].pods.values()) > 1 else 30,
        }

    holder: list[Service] = []
    holder.append(Service(in_force(QUEUED), load(holder)).at_rest(2))
    service = holder[0].run(55)
    assert [(c.before, c.after) for c in service.memory.history] == [(2, 1), (1, 2)]
    service.run(30)
    assert [(c.before, c.after) for c in service.memory.history] == [(2, 1), (1, 2), (2, 1), (1, 2)]


# --- pods that start, and samples that are missing ---------------------------------------------------


def test_pods_that_start_count_as_idle_when_the_others_are_full():
    observed = steady(use(100), use(100))
    found = decide(seen(observed, 2), in_force(CACHED), at(4), NOW, no_end)
    assert found.replicas == 4, "200 % needs 3: two are full and two start, so none comes and none goes"
    busier = steady(use(100, 20), use(100, 20))
    assert decide(seen(busier, 2), in_force(BOTH), at(4), NOW, no_end).replicas == 4


def test_a_pod_that_just_got_ready_may_lack_its_first_sample():
    ready = {"p0": NOW - MINUTE * 60, "p1": NOW - timedelta(seconds=20)}
    looked = replace(seen(steady(use(69)), 1), ready=ready)
    found = decide(looked, in_force(CACHED), at(2), NOW, no_end)
    assert (found.replicas, found.memory.code) == (1, "ScaledDown")
    looked = replace(looked, ready={name: NOW - MINUTE for name in ready})
    found = decide(looked, in_force(CACHED), at(2), NOW, no_end)
    assert (found.replicas, found.memory.code) == (2, "MetricsMissing")


@pytest.mark.parametrize(
    ("observed", "code", "says"),
    [
        pytest.param(
            without(steady(use(5), use(5), use(5)), {"p1"}),
            "MetricsMissing",
            "needs KVCacheUse of all 3 ready pods to take one away, found it of 2",
            id="one pod is not scraped",
        ),
        pytest.param(
            steady({RUNNING: 1, WAITING: 0}, {RUNNING: 1, WAITING: 0}, {RUNNING: 1, WAITING: 0}),
            "MetricsMissing",
            "needs KVCacheUse of all 3 ready pods to take one away, found it of 0",
            id="a release that renamed the metric",
        ),
        pytest.param(
            steady(None, None, None),
            "MetricsMissing",
            "needs KVCacheUse of all 3 ready pods to take one away, found it of 0",
            id="nothing is scraped",
        ),
        pytest.param(
            steady(use(5), use(5), use(5), until=NOW - timedelta(seconds=61)),
            "MetricsUnavailable",
            "needs samples of the last 60 s, found the last of 08:58:59Z",
            id="samples of a minute ago",
        ),
        pytest.param(
            Observed(), "MetricsUnavailable", "needs samples of the last 60 s, found none", id="none"
        ),
        pytest.param(
            replace(steady(use(5), use(5), use(5)), away_since=NOW - MINUTE),
            "MetricsUnavailable",
            "needs metrics to scale, Prometheus does not answer since 08:59:00Z",
            id="Prometheus is away",
        ),
        pytest.param(
            replace(steady(use(5), use(5), use(5)), is_named=False),
            "MetricsMissing",
            "needs series with the label pod, found some without",
            id="series without the label pod",
        ),
    ],
)
def test_missing_data_holds_and_says_so_once(observed, code, says):
    rules = in_force(CACHED)
    found = decide(seen(observed, 3), rules, at(3), NOW, no_end)
    assert found.replicas == 3
    assert found.memory.code == code
    assert found.memory.message.startswith(f"chat: stays at 3 replicas: {says}")
    assert [event.type for event in found.events] == ["Warning"]
    later = decide(seen(observed, 3), rules, found.memory, NOW + STEP, no_end)
    assert (later.memory, later.events) == (found.memory, ())


def test_what_is_known_of_some_pods_may_add_but_never_take():
    observed = without(steady(use(99), use(99), use(99)), {"p2"})
    assert decide(seen(observed, 3), in_force(CACHED), at(2), NOW, no_end).replicas == 3
    observed = without(steady(use(9), use(9), use(9)), {"p2"})
    assert decide(seen(observed, 3), in_force(CACHED), at(3), NOW, no_end).replicas == 3


def test_a_gap_in_the_window_takes_no_pod():
    whole = steady(use(5), use(5))
    points = list(whole.points)
    points[-8] = point(points[-8].at, use(5), None)
    gap = replace(whole, points=tuple(points))
    assert decide(seen(whole, 2), in_force(CACHED), at(2), NOW, no_end).replicas == 1
    assert decide(seen(gap, 2), in_force(CACHED), at(2), NOW, no_end).replicas == 2


def test_data_that_comes_back_is_told_with_its_numbers():
    lost = at(2)
    lost = replace(lost, code="MetricsUnavailable", message="chat: no metrics")
    found = decide(seen(steady(use(60), use(60)), 2), in_force(CACHED), lost, NOW, no_end)
    assert found.memory.code == "WithinTarget"
    assert found.memory.message == "chat: stays at 2 replicas: KVCacheUse 120 % in 2 pods, 70 % each"


def test_before_anything_was_read_nothing_is_said():
    found = decide(seen(None, 2), in_force(CACHED), at(2), NOW, no_end)
    assert (found.memory, found.events) == (at(2), ())


# --- bounds and room ---------------------------------------------------------------------------------


def test_the_maximum_is_said_once_with_what_the_load_needed():
    rules = in_force({**CACHED, "maxReplicas": 4})
    found = decide(seen(steady(*[use(99)] * 4), 4), rules, at(4), NOW, no_end)
    assert found.replicas == 4
    assert found.memory.code == "AtMaximum"
    assert "needs 6 by KVCacheUse 396 % in 4 pods, 70 % each, found maxReplicas 4" in found.memory.message
    busier = decide(seen(steady(*[use(100)] * 4), 4), rules, found.memory, NOW + STEP, no_end)
    assert busier.memory == found.memory
    calm = decide(seen(steady(*[use(65)] * 4), 4), rules, found.memory, NOW, no_end)
    assert (calm.replicas, calm.memory.code) == (4, "WithinTarget")


def test_no_more_pods_are_wanted_than_have_a_place():
    rules = in_force(CACHED)
    looked = seen(steady(use(99), use(99), use(99)), 3)
    found = decide(looked, rules, at(3), NOW, room_for(4, "1 x (2 x NVIDIA-L4)"))
    assert found.replicas == 4
    assert found.memory.code == "WaitingForCapacity"
    assert found.memory.message == (
        "chat: stays at 4 replicas: needs 5 by KVCacheUse 297 % in 3 pods, 70 % each, found room for "
        "4; waits for 1 x (2 x NVIDIA-L4)"
    )
    assert [change.after for change in found.memory.history] == [4]
    full = decide(looked, rules, at(3), NOW, lambda current, wanted: Room(current, "2 x (2 x NVIDIA-L4)"))
    assert (full.replicas, full.memory.code) == (3, "WaitingForCapacity")


def test_room_that_came_is_used():
    waiting = decide(seen(steady(*[use(99)] * 3), 3), in_force(CACHED), at(3), NOW, room_for(3)).memory
    found = decide(seen(steady(*[use(99)] * 3), 3), in_force(CACHED), waiting, NOW + STEP, room_for(9))
    assert (found.replicas, found.memory.code) == (5, "ScaledUp")


def test_the_users_bounds_are_followed_at_once():
    looked = seen(None, 0)
    up = decide(looked, in_force({"minReplicas": 4, "maxReplicas": 8}), at(2), NOW, room_for(2))
    assert (up.replicas, up.memory.message) == (4, "chat: 2 to 4 replicas: minReplicas is 4")
    down = decide(looked, in_force({"minReplicas": 1, "maxReplicas": 3}), at(6), NOW, no_end)
    assert (down.replicas, down.memory.message) == (3, "chat: 6 to 3 replicas: maxReplicas is 3")


@pytest.mark.parametrize(("live", "wanted"), [(0, 2), (5, 5), (12, 8)])
def test_a_lost_memory_is_taken_from_the_pods(live, wanted):
    rules = in_force({"minReplicas": 2, "maxReplicas": 8})
    assert decide(seen(None, 0, live=live), rules, Memory(), NOW, no_end).replicas == wanted


def test_a_rollout_is_no_proof_that_fewer_would_do_for_a_queue_alone():
    observed = steady(*[use(10)] * 4)
    assert decide(seen(observed, 4), in_force(QUEUED), at(2), NOW, no_end).replicas == 1
    rolling = seen(observed, 4, is_rolling=True)
    assert decide(rolling, in_force(QUEUED), at(2), NOW, no_end).replicas == 2


def test_a_surge_of_pods_is_not_taken_for_idle_replicas():
    """Two replicas at 70 %, and two pods of a candidate beside them: the load is that of two."""
    observed = steady(*[use(35)] * 4)
    found = decide(seen(observed, 4, is_rolling=True), in_force(CACHED), at(2), NOW, no_end)
    assert found.replicas == 2


def test_what_cannot_be_done_keeps_the_number():
    reason = Reason("MetricUnsupported", "chat: not measured")
    found = held(seen(None, 0), 2, at(5), reason, NOW)
    assert (found.replicas, found.memory.code, found.memory.message) == (5, *_parts(reason))
    assert held(seen(None, 0), 2, found.memory, reason, NOW + STEP).memory == found.memory
    assert held(seen(None, 0, live=3), 2, Memory(), reason, NOW).replicas == 3


def _parts(reason: Reason) -> tuple[str, str]:
    return reason.code, reason.message


# --- the clock ---------------------------------------------------------------------------------------

OFFICE = {"timeZone": "Europe/Berlin", "windows": [{"start": "10:30", "end": "12:00", "minReplicas": 4}]}
"""From 09:30 to 11:00 in UTC."""


def test_the_clock_alone_adds_and_takes_at_once():
    rules = in_force({"minReplicas": 1, "schedule": OFFICE})
    before = decide(seen(None, 1), rules, at(1), NOW, no_end)
    assert (before.replicas, before.after) == (1, timedelta(minutes=30))
    opened = decide(seen(None, 1), rules, before.memory, NOW + MINUTE * 30, no_end)
    assert opened.replicas == 4
    assert opened.memory.message == "chat: 1 to 4 replicas: the schedule wants 4 until 12:00 Europe/Berlin"
    closed = decide(seen(None, 4), rules, opened.memory, NOW + MINUTE * 120, no_end)
    assert (closed.replicas, closed.memory.code) == (1, "Scheduled")


def test_the_clock_is_a_floor_for_the_load():
    rules = in_force({**CACHED, "schedule": OFFICE})
    during = NOW + MINUTE * 40
    idle = seen(steady(*[use(1)] * 5, until=during), 5)
    assert decide(idle, rules, at(5), during, no_end).replicas == 4
    busy = seen(steady(*[use(99)] * 4, until=during), 4)
    assert decide(busy, rules, at(4), during, no_end).replicas == 6
    late = NOW + MINUTE * 121
    idle = seen(steady(*[use(1)] * 4, until=late), 4)
    assert decide(idle, rules, at(4), late, no_end).replicas == 3, "after it the load takes one a minute"


def test_the_clock_wants_no_more_than_fits():
    rules = in_force({**CACHED, "schedule": OFFICE})
    during = NOW + MINUTE * 40
    looked = seen(steady(use(1), use(1), until=during), 2)
    found = decide(looked, rules, at(2), during, room_for(3, "1 x (1 x NVIDIA-L4)"))
    assert (found.replicas, found.memory.code) == (3, "WaitingForCapacity")
    assert "the schedule wants 4 until 12:00 Europe/Berlin, found room for 3;" in found.memory.message
    again = decide(looked, rules, found.memory, during, lambda current, wanted: Room(current, "1 x L4"))
    assert (again.memory, again.events) == (found.memory, ())


# --- a day -------------------------------------------------------------------------------------------


def test_a_peak_is_followed_up_and_down_without_a_swing():
    """From 60 % to 400 % of one pod within ten minutes, half an hour there, and back."""

    def peak(minutes: float) -> float:
        if minutes < 10:
            return 60
        if minutes < 20:
            return 60 + 34 * (minutes - 10)
        return 400 if minutes < 50 else 60

    service = Service(in_force(CACHED), cache_of(peak)).at_rest(1).run(80)
    changes = [(c.before, c.after) for c in service.memory.history]
    ups = [(a, b) for a, b in changes if b > a]
    assert max(service.numbers) == 6, "400 % at 70 % each"
    assert changes == ups + [(n, n - 1) for n in range(6, 1, -1)], "up, then down one by one, no way back"
    assert service.numbers[-1] == 1
