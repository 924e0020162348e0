"""Scenarios over the pure machine: how a run begins, goes forward, and gives way to a newer version."""

from dataclasses import replace
from datetime import timedelta

from modelops.rollouts.rules import Stage
from modelops.rollouts.state import Pause, Phase, Room
from tests.rollouts.stories import (
    Stories,
    enough_stable_pods,
    no_traffic_without_pods,
    stable_is_defined,
)
from tests.rollouts.world import RULES, V1, V2, V3, World, at, promoted, pushed, served, steps

scenario = Stories()


# --- start -------------------------------------------------------------------------------------------


@scenario("S1 a first version gets everything, without steps and without analysis")
def _() -> None:
    world = World(has_metrics=False)

    world.until(Phase.STARTING).until(Phase.STABLE)

    assert world.state.stable == V1
    assert world.run(2).routed == {V1.hash: 100}
    assert world.weights == [0]


@scenario("S2 a first version that never gets ready gets no route, and goes on trying past its deadline")
def _() -> None:
    world = World(candidate_comes_up=False)

    world.run(1900)

    assert (world.state.phase, world.route) == (Phase.STARTING, None)
    assert world.state.unready_at is not None
    assert world.now - world.state.unready_at >= RULES.progress_deadline


# --- progress ----------------------------------------------------------------------------------------


@scenario("S5 a pushed version waits at weight 0 until it is ready and warm")
def _() -> None:
    world = served()

    world.desired = V2
    world.run(9)

    assert (world.state.phase, world.share(V2)) == (Phase.STARTING, 0)
    assert world.run(6).share(V2) == 20


@scenario("S6 weights are exactly the steps, none skipped, then all, then the old version is gone")
def _() -> None:
    world = pushed().change(steps=steps(20, 30, 50))

    world.run(150)
    promoted(world).run(3)

    assert [w for w in world.weights if w] == [20, 30, 50, 100]
    assert world.routed == {V2.hash: 100}
    assert set(world.deployments) == {V2.hash}


@scenario("S8 a promotion moves the pointer and touches no pod")
def _() -> None:
    world = at(50, replicas=4)
    pods_before = world.pods[V2.hash]

    world.verdict = "Promote"
    world.until(Phase.BAKING)

    assert world.pods[V2.hash] == pods_before == 4
    assert (world.state.stable, world.state.previous) == (V2, V1)
    assert world.state.promoted_at == world.now


@scenario("S9 pods that no node has room for hold the weight, and are nobody's failure")
def _() -> None:
    world = pushed(replicas=4, room=5)

    world.run(3600)

    assert world.state.paused_for == {Pause.WAITING_FOR_CAPACITY}
    assert (world.share(V2), world.state.rejected) == (20, ())
    world.room = None
    assert world.run(90).share(V2) == 50


@scenario("S9 room that does not come within a day ends the run")
def _() -> None:
    world = pushed(replicas=4, room=5).change(capacity_deadline=timedelta(minutes=10))

    world.until(Phase.ROLLED_BACK, 900)

    assert world.state.reason == "CapacityDeadlineExceeded"


@scenario("S10 a gateway that does not accept stops the step's clock, and pauses past the deadline")
def _() -> None:
    world = pushed()

    world.gateway_answers = False
    world.run(60)
    world.look()

    assert (world.state.weight, world.share(V2), world.state.step_at) == (50, 20, None)
    assert world.run(120).state.paused_for == {Pause.ROUTE_NOT_ACCEPTED}
    world.gateway_answers = True
    assert world.run(3).state.phase is Phase.PROGRESSING


@scenario("S11 a weight that was edited by hand is set back in one pass, and told once")
def _() -> None:
    world = pushed()

    world.written = world.route = replace(world.route, weights=((V1.hash, 40), (V2.hash, 60)))
    world.look()

    assert world.share(V2) == 20
    assert world.run(5).events.count("WeightDrift") == 1


@scenario("S14 replicas and version that change together make one rollout with the right counts")
def _() -> None:
    world = served()

    world.replicas, world.desired = 4, V2
    world.until(Phase.PROGRESSING).run(2)

    assert world.deployments == {V1.hash: 4, V2.hash: 1}
    assert world.events.count("Started") == 2


@scenario("S15 with DynamicStable stable has its share of pods at every instant, down and up again")
def _() -> None:
    world = served(replicas=8, rules=replace(RULES, room=Room.DYNAMIC_STABLE))
    world.pace = 1
    world.checks.append(enough_stable_pods)

    world.desired = V2
    world.until(Phase.PROGRESSING)
    while world.state.weight != 50 or world.state.stable_capacity != 50:
        world.run(1)

    assert world.run(2).deployments == {V1.hash: 4, V2.hash: 4}
    world.robust = 30.0
    assert world.run(90).deployments == {V1.hash: 7, V2.hash: 2}


@scenario("S16 a change of the total applies in mid-run, split by role, and the step stays")
def _() -> None:
    world = at(50, replicas=2)

    world.replicas = 6
    world.run(3)

    assert world.deployments == {V1.hash: 6, V2.hash: 6}
    assert (world.state.step, world.share(V2)) == (1, 50)


@scenario("S18 edited steps keep the weight, and the run goes on at the first step above it")
def _() -> None:
    world = pushed()

    world.change(steps=steps(5, 10, 30, 60))
    world.run(5)

    assert (world.share(V2), world.state.step) == (20, 1)
    assert [w for w in world.run(80).weights if w] == [20, 30, 60]


@scenario("S21 two services know nothing of each other")
def _() -> None:
    good, bad = pushed(), pushed()

    bad.verdict = "Rollback"
    good.run(20)
    bad.run(20)

    assert (good.state.phase, bad.state.phase) == (Phase.PROGRESSING, Phase.ROLLED_BACK)


# --- supersede ---------------------------------------------------------------------------------------


@scenario("S22 a newer version waits until traffic left the older one, and begins from the first step")
def _() -> None:
    world = at(50)
    world.checks.append(no_traffic_without_pods)

    world.desired, world.gateway_answers = V3, False
    world.run(5)

    assert (world.state.phase, world.state.candidate) == (Phase.SUPERSEDING, V2)
    assert V2.hash in world.deployments
    world.gateway_answers = True
    world.until(Phase.STARTING)
    assert (world.state.candidate, world.state.step, world.state.judged_to) == (V3, -1, None)
    assert world.until(Phase.PROGRESSING).state.weight == 20


@scenario("S23 a version that served before, inside the window, takes over when it is ready")
def _() -> None:
    world = promoted(pushed().run(60))

    world.desired, world.weights = V1, []
    world.until(Phase.BAKING)

    assert world.state.stable == V1
    assert 20 not in world.weights


@scenario("S23 a version that served before, outside the window, takes every step")
def _() -> None:
    world = promoted(pushed().run(60)).change(rollback_window=0)

    world.desired, world.weights = V1, []
    world.until(Phase.PROGRESSING).run(2)

    assert world.state.weight == 20


@scenario("S24 a newer version during a promotion undoes it first, and stable is never undefined")
def _() -> None:
    world = at(50)
    world.checks.append(stable_is_defined)
    world.verdict, world.gateway_answers = "Promote", False
    world.until(Phase.PROMOTING).run(2)

    world.desired = V3
    world.run(2)

    assert world.state.phase is Phase.SUPERSEDING
    world.verdict, world.gateway_answers = "Continue", True
    assert world.until(Phase.PROGRESSING).state.candidate == V3
    assert world.state.stable == V1


@scenario("S25 two bad versions in a row never take anything from stable for good")
def _() -> None:
    world = pushed()
    world.verdict = "Rollback"
    world.until(Phase.ROLLED_BACK)

    world.verdict, world.desired = "Continue", V3
    world.until(Phase.PROGRESSING).run(2)
    world.verdict = "Rollback"
    world.until(Phase.ROLLED_BACK).run(2)

    assert world.routed == {V1.hash: 100}
    assert [r.hash for r in world.state.rejected] == [V2.hash, V3.hash]


@scenario("S26 a strategy that changes while nothing rolls changes nothing")
def _() -> None:
    world = served()
    before = world.state

    world.change(steps=(), prelude=Stage(is_preview=True))
    world.run(10)

    assert world.state == before


test_scenario = scenario.test
