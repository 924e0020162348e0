"""Events are news: a run that waits, for whatever it may be, tells nothing twice."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from modelops.plan import Reason
from modelops.rollouts.rules import Rules
from modelops.rollouts.state import Pause, Phase, Room
from tests.rollouts.world import RULES, V2, World, at, pushed, served, steps


def by_the_judge(reason: str, verdict: str = "Continue") -> Callable[[World], None]:
    def happen(world: World) -> None:
        world.verdict, world.reason = verdict, reason

    return happen


def silent(world: World) -> None:
    world.has_metrics, world.away_since = False, world.now - timedelta(hours=2)


def unaccepted(world: World) -> None:
    world.gateway_answers = False
    world.run(200)


def held(world: World) -> None:
    world.hold = Reason("Revoked", "chat-2: revoked")


def stopped(world: World) -> None:
    world.act("Pause").run(1)


def without_policy(world: World) -> None:
    world.rules = None


STANDING: list[tuple[Pause, Callable[[World], None]]] = [
    (Pause.USER, stopped),
    (Pause.NO_DATA, by_the_judge("NoData", "Inconclusive")),
    (Pause.INCONCLUSIVE, by_the_judge("MaxDuration", "Inconclusive")),
    (Pause.METRICS_UNAVAILABLE, silent),
    (Pause.BASELINE_UNHEALTHY, by_the_judge("BaselineUnhealthy")),
    (Pause.NOT_COMPARABLE, by_the_judge("NotComparable")),
    (Pause.ROUTE_NOT_ACCEPTED, unaccepted),
    (Pause.POLICY_MISSING, without_policy),
    (Pause.HELD, held),
]


@pytest.mark.parametrize(("pause", "happen"), STANDING, ids=[str(pause) for pause, _ in STANDING])
def test_a_paused_run_tells_so_once(pause: Pause, happen: Callable[[World], None]) -> None:
    world = pushed()
    happen(world)
    world.until(Phase.PAUSED, 300).run(5)
    assert pause in world.state.paused_for
    told, state = list(world.told), world.state

    world.run(3000)

    assert world.told == told
    assert world.events.count("Paused") == 1
    assert replace(world.state, unready_at=None) == replace(state, unready_at=None)


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(replace(RULES, steps=(*steps(20, waits=True), *steps(50))), id="a step of a person"),
        pytest.param(replace(RULES, steps=steps(20, 50, needs_approval=True)), id="a step with approval"),
        pytest.param(replace(RULES, approves_start=True), id="before the start"),
        pytest.param(replace(RULES, room=Room.DYNAMIC_STABLE), id="a pod without room"),
    ],
)
def test_a_run_that_waits_tells_nothing_while_it_does(rules: Rules) -> None:
    world = served(rules=rules, replicas=2, room=None if rules.room is Room.SURGE else 2)
    world.desired = V2
    world.run(120)
    told = list(world.told)

    world.run(3000)

    assert world.told == told


def test_a_run_at_its_last_step_without_a_word_tells_nothing() -> None:
    world = at(50)
    told = list(world.told)

    world.run(3000)

    assert world.told == told


@pytest.mark.parametrize("outcome", ["Promoted", "RolledBack", "Aborted", "Superseded", "Reverted"])
def test_s69_a_run_is_timed_once_when_it_is_decided(outcome: str) -> None:
    world = at(50)
    began = world.state.started_at
    assert began is not None
    match outcome:
        case "Promoted":
            world.verdict = "Promote"
        case "RolledBack":
            world.verdict = "Rollback"
        case "Aborted":
            world.act("Abort")
        case "Superseded":
            world.desired = replace(V2, hash="4" * 8)
        case _:
            world.desired = world.state.stable

    world.told.clear()
    at_first = world.now
    world.run(60)

    timed = [(event.reason, event.lasted) for event in world.told if event.lasted is not None]
    assert timed[0][0] == outcome
    assert at_first - began < timed[0][1] <= at_first - began + timedelta(minutes=1)
    assert [reason for reason, _ in timed].count(outcome) == 1
