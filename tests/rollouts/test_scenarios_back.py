"""Scenarios over the pure machine: the way back."""

from dataclasses import replace

from modelops.rollouts.starts import run_id
from modelops.rollouts.state import Pause, Phase, Room
from tests.rollouts.stories import (
    Stories,
    assert_,
    enough_stable_pods,
)
from tests.rollouts.world import RULES, V1, V2, V3, at, pushed, served, steps

scenario = Stories()


# --- rollback ----------------------------------------------------------------------------------------


@scenario("S27 evidence of harm: weight 0 in one write, pods kept for the delay, then gone, and remembered")
def _() -> None:
    world = at(50)

    world.verdict, world.reason = "Rollback", "RegressionEvidence"
    world.look()

    assert (world.state.weight, world.share(V2), world.ready(V2)) == (0, 0, 1)
    assert world.run(8).ready(V2) == 1
    world.until(Phase.ROLLED_BACK).run(2)
    assert set(world.deployments) == {V1.hash}
    (mark,) = world.state.rejected
    assert (mark.hash, mark.run_id) == (V2.hash, run_id(V2, 0))
    assert "errors 0% vs 0%" in mark.reason


@scenario("S28 a Retry inside the delay tears no pod down, and begins again with fresh evidence")
def _() -> None:
    world = at(50)
    world.verdict = "Rollback"
    world.until(Phase.ROLLING_BACK).run(2)
    world.verdict = "Continue"
    world.checks.append(lambda w: assert_(V2.hash in w.deployments, "the candidate's pods went"))

    world.act("Retry")
    world.until(Phase.PROGRESSING).run(2)

    assert (world.state.run_id, world.state.weight) == (run_id(V2, 1), 20)
    assert world.state.rejected == ()


@scenario("S29 with DynamicStable an abort lowers the weight only as stable gets ready")
def _() -> None:
    rules = replace(RULES, room=Room.DYNAMIC_STABLE, steps=steps(75))
    world = served(replicas=4, rules=rules)
    world.desired = V2
    world.until(Phase.PROGRESSING).run(5)
    assert world.deployments == {V1.hash: 1, V2.hash: 3}
    world.checks.append(enough_stable_pods)

    world.stable_ready = 1
    world.act("Abort").run(2)

    assert (world.state.phase, world.share(V2)) == (Phase.ROLLING_BACK, 75)
    world.stable_ready = 3
    assert world.run(2).share(V2) == 25
    world.stable_ready = None
    assert world.run(2).share(V2) == 0
    world.until(Phase.ROLLED_BACK)


@scenario("S30 crashes roll back without a word of Prometheus")
def _() -> None:
    world = pushed(has_metrics=False)

    world.away_since, world.restarts = world.now, 4
    world.until(Phase.ROLLED_BACK)

    assert world.state.reason == "RestartLimit"


@scenario("S30 pods that never get ready roll back at the deadline without a word of Prometheus")
def _() -> None:
    world = served(has_metrics=False)

    world.desired, world.candidate_comes_up = V2, False
    world.until(Phase.ROLLED_BACK, 2000)

    assert world.state.reason == "DeadlineExceeded"


@scenario("S31 a pause longer than the deadline of the pods is no failure")
def _() -> None:
    world = pushed(rules=replace(RULES, steps=(*steps(20, waits=True), *steps(50))))

    world.run(2400)

    assert (world.state.phase, world.state.paused_for) == (Phase.PAUSED, {Pause.STEP})


@scenario("S32 an unhealthy stable holds, and never makes a healthy candidate go back")
def _() -> None:
    world = pushed()

    world.reason = "BaselineUnhealthy"
    world.run(120)

    assert (world.state.paused_for, world.share(V2)) == ({Pause.BASELINE_UNHEALTHY}, 20)
    world.desired, world.reason = V3, "Undecided"
    assert world.until(Phase.PROGRESSING).state.candidate == V3


@scenario("S32 a stable without a ready pod gives way to the next ready version")
def _() -> None:
    world = pushed()

    world.stable_ready = 0
    world.run(2)

    assert world.state.stable == V2


@scenario("S33 a rollback that the gateway does not take keeps the pods until it does")
def _() -> None:
    world = at(50)

    world.verdict, world.gateway_answers = "Rollback", False
    world.run(600)

    assert (world.state.phase, world.ready(V2), world.share(V2)) == (Phase.ROLLING_BACK, 1, 50)
    world.gateway_answers = True
    world.until(Phase.ROLLED_BACK)


test_scenario = scenario.test
