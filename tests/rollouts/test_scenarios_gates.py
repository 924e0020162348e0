"""Scenarios over the pure machine: what waits for people."""

from dataclasses import replace
from datetime import timedelta

import pytest

from modelops.plan import Reason
from modelops.rollouts.machine import advance
from modelops.rollouts.rules import NO_POLICY
from modelops.rollouts.seen import Judgement
from modelops.rollouts.state import Acted, Awaits, Pause, Phase, from_status, to_status
from tests.rollouts.stories import (
    Stories,
)
from tests.rollouts.world import NOW, RULES, V1, V2, V3, World, at, pushed, served, steps

scenario = Stories()
MINUTE = timedelta(minutes=1)


# --- gates -------------------------------------------------------------------------------------------


@scenario("S48 approval.beforeStart: no pod until a person lets it start")
def _() -> None:
    world = served(rules=replace(RULES, approves_start=True))

    world.desired = V2
    world.run(60)

    assert (world.state.phase, world.state.awaits) == (Phase.AWAITING_APPROVAL, Awaits.START)
    assert set(world.deployments) == {V1.hash}
    world.act("Promote", wait=world.state.wait)
    assert world.until(Phase.PROGRESSING).state.weight == 20


@scenario("S48 approval.beforeStart: a newer push takes the place, and needs an approval of its own")
def _() -> None:
    world = served(rules=replace(RULES, approves_start=True))
    world.desired = V2
    world.run(5)
    for_v2 = world.act("Promote", wait=world.state.wait).action

    world.desired = V3
    world.run(2)
    world.action = for_v2
    world.run(60)

    assert (world.state.candidate, world.state.phase) == (V3, Phase.AWAITING_APPROVAL)


@scenario("S48 approval.beforeStart: the first version of a service asks nobody but the gates")
def _() -> None:
    world = World(rules=replace(RULES, approves_start=True))

    assert world.until(Phase.STARTING).until(Phase.STABLE).state.stable == V1


@scenario("S48 approval.beforeStart comes after the gates of the version")
def _() -> None:
    world = served(rules=replace(RULES, approves_start=True))
    world.hold, world.desired = Reason("ApprovalMissing", "chat-2: needs 1 approval"), V2
    world.run(5)
    world.act("Promote").run(5)
    assert world.state.message == "chat-2: needs 1 approval"

    world.hold = None
    world.run(1)

    assert world.state.phase is Phase.STARTING


APPROVED = replace(RULES, approves_start=True, approves_promotion=True)
UNCHECKED = Reason("GateNotProven", "the approval gate was not checked yet; wait for its self-test")
OPEN = Reason("GateNotEnforced", "the approval gate needs its policies, found none; install it again")


@scenario("S48 approval.beforeStart: who may not approve lets nothing start")
def _() -> None:
    world = served(rules=APPROVED)
    world.desired = V2
    world.run(5)

    for by, model in (("bob", ""), ("", "chat"), ("bob", "another")):
        world.act("Promote", by=by, approves=model).run(30)
        assert world.state.phase is Phase.AWAITING_APPROVAL

    assert world.act("Promote").run(1).state.phase is Phase.STARTING
    assert world.state.acted is not None
    assert world.state.acted.by == "alice"


@scenario("S49 approval.beforePromotion: who may not approve does not promote ahead of the wait either")
def _() -> None:
    world = at(50).change(approves_promotion=True)

    world.act("Promote", by="bob", approves="").run(120)
    assert (world.state.phase, world.share(V2)) == (Phase.PROGRESSING, 50)
    world.verdict = "Promote"
    world.until(Phase.AWAITING_APPROVAL).run(30)

    assert world.state.phase is Phase.AWAITING_APPROVAL
    world.act("Promote")
    assert world.until(Phase.BAKING).state.stable == V2


@scenario("S49 an approval waits until the gate in front of it is proven")
def _() -> None:
    world = served(rules=APPROVED, distrust=UNCHECKED)
    world.desired = V2
    world.run(5)

    world.act("Promote").run(60)

    assert world.state.phase is Phase.AWAITING_APPROVAL
    world.distrust = None
    assert world.run(1).state.phase is Phase.STARTING


@scenario("S49 an approval that came while the gate was open counts for nothing, then and later")
def _() -> None:
    world = served(rules=APPROVED, distrust=OPEN)
    world.desired = V2
    world.run(5)
    before = world.state.wait

    world.act("Promote", wait=before).run(60)
    world.distrust = None
    world.run(60)

    assert world.state.phase is Phase.AWAITING_APPROVAL
    assert world.events.count("ApprovalNotBelieved") == 1
    world.act("Promote", wait=world.state.wait).run(1)
    assert (world.state.phase, before + 1) == (Phase.STARTING, world.state.wait)


@scenario("S49 an Abort needs no approval, whatever the policy asks for")
def _() -> None:
    world = at(50).change(approves_promotion=True)

    world.act("Abort", by="bob")

    assert world.until(Phase.ROLLED_BACK).state.stable == V1


@scenario("S49 approval.beforePromotion: waits at the last step, and a person promotes")
def _() -> None:
    world = at(50).change(approves_promotion=True)

    world.verdict = "Promote"
    world.until(Phase.AWAITING_APPROVAL).run(600)

    assert (world.state.awaits, world.share(V2)) == (Awaits.PROMOTION, 50)
    world.act("Promote", wait=world.state.wait)
    assert world.until(Phase.BAKING).state.stable == V2


@scenario("S49 approval.beforePromotion: a regression while it waits still rolls back")
def _() -> None:
    world = at(50).change(approves_promotion=True)
    world.verdict = "Promote"
    world.until(Phase.AWAITING_APPROVAL).run(10)

    world.verdict = "Rollback"

    assert world.until(Phase.ROLLED_BACK).state.stable == V1


@scenario("S49 approval.beforePromotion: the wait does not count as time of the run")
def _() -> None:
    world = at(50).change(approves_promotion=True)
    world.verdict = "Promote"
    world.until(Phase.AWAITING_APPROVAL)
    began = world.now

    world.run(100)
    world.act("Promote").run(1)

    assert [(s.start, s.end) for s in world.state.pauses][-1] == (began, world.now)


@scenario("S49 approval of one step waits there for Promote, which promotes no further than the step")
def _() -> None:
    rules = replace(RULES, steps=(*steps(20, needs_approval=True), *steps(50)))
    world = pushed(rules=rules).run(120)
    assert (world.state.paused_for, world.share(V2)) == ({Pause.APPROVAL}, 20)

    world.act("Resume", wait=world.state.wait).run(30)
    assert world.state.paused_for == {Pause.APPROVAL}
    world.act("Promote", wait=world.state.wait).run(60)

    assert (world.share(V2), world.state.phase) == (50, Phase.PROGRESSING)


@scenario("S50 a timed pause ends on time though no operator ran meanwhile")
def _() -> None:
    world = pushed(rules=replace(RULES, steps=(*steps(20, pause=10 * MINUTE), *steps(50))))
    assert world.run(300).state.paused_for == {Pause.STEP}

    world.now += 10 * MINUTE
    world.run(2)

    assert world.share(V2) == 50


@scenario("S50 a timed pause ends early by a person's Resume")
def _() -> None:
    world = pushed(rules=replace(RULES, steps=(*steps(20, pause=10 * MINUTE), *steps(50)))).run(60)

    world.act("Resume").run(60)

    assert world.share(V2) == 50


@scenario("S50 a pause without a time waits for a person, at each step anew")
def _() -> None:
    world = pushed(rules=replace(RULES, steps=steps(20, 50, waits=True))).run(120)
    first = world.state.wait
    world.act("Resume", wait=first).run(120)
    assert (world.share(V2), world.state.paused_for) == (50, {Pause.STEP})

    world.run(300)
    assert world.state.paused_for == {Pause.STEP}
    world.act("Resume", wait=world.state.wait).run(2)

    assert world.state.wait == first + 1
    assert world.state.phase is Phase.PROGRESSING


@scenario("S51 suspended weights stay, and crashing pods still go back")
def _() -> None:
    world = pushed().change(is_suspended=True)

    world.run(300)

    assert (world.state.phase, world.share(V2)) == (Phase.PROGRESSING, 20)
    world.restarts = 4
    assert world.until(Phase.ROLLED_BACK).state.reason == "RestartLimit"


@scenario("S52 preset None promotes after readiness and needs no metrics")
def _() -> None:
    world = served(has_metrics=False, rules=replace(RULES, is_analysed=False))

    world.desired = V2
    world.until(Phase.BAKING)

    assert [w for w in world.weights if w] == [20, 50, 100]


# --- what people do ----------------------------------------------------------------------------------


@scenario("3.1 an action for another run does nothing")
def _() -> None:
    world = pushed()

    world.action = Acted("Abort", "another")
    world.run(10)

    assert world.state.phase is Phase.PROGRESSING


@scenario("3.1 an action that stays in the spec is done once")
def _() -> None:
    world = pushed(rules=replace(RULES, steps=steps(20, 50, waits=True))).run(5)

    world.act("Resume").run(120)

    assert (world.share(V2), world.state.paused_for) == (50, {Pause.STEP})


@scenario("3.1 a Resume for a wait that is over does nothing to the next")
def _() -> None:
    world = pushed(rules=replace(RULES, steps=steps(20, 50, waits=True))).run(5)
    world.act("Resume", wait=world.state.wait).run(60)
    assert world.state.wait == 2

    world.act("Resume", wait=1).run(30)

    assert world.state.paused_for == {Pause.STEP}


@scenario("3.1 Pause and Resume can follow each other any number of times")
def _() -> None:
    world = pushed()

    for _ in range(3):
        world.act("Pause").run(2)
        assert world.state.paused_for == {Pause.USER}
        world.act("Resume", wait=world.state.wait).run(2)
        assert world.state.phase is Phase.PROGRESSING


@scenario("3.1 a Pause before the first step lets it get ready and stops there")
def _() -> None:
    world = served()
    world.desired = V2
    world.until(Phase.STARTING)

    world.act("Pause").run(120)

    assert (world.state.phase, world.state.ready_at is None) == (Phase.STARTING, False)
    world.act("Resume").run(5)
    assert world.share(V2) == 20


@scenario("3.1 an Abort on the way back changes nothing")
def _() -> None:
    world = pushed()
    world.desired, world.gateway_answers = V1, False
    world.run(2)

    world.act("Abort").run(5)

    assert (world.state.phase, world.state.rejected) == (Phase.REVERTING, ())


@scenario("3.2 I6 a rejected revision that is applied again starts nothing")
def _() -> None:
    world = pushed()
    world.verdict = "Rollback"
    world.until(Phase.ROLLED_BACK)
    world.verdict = "Continue"

    world.desired = V1
    world.until(Phase.STABLE)
    world.desired = V2
    world.run(300)

    assert (world.state.phase, set(world.deployments)) == (Phase.STABLE, {V1.hash})


@scenario("3.3 a step's clock runs only while route and wish agree")
def _() -> None:
    world = at(50)

    world.candidate_comes_up = False
    world.run(2)
    assert (world.share(V2), world.state.step_at) == (0, None)
    world.candidate_comes_up = True
    world.run(3)

    assert world.share(V2) == 50
    assert world.state.step_at is not None
    assert world.now - world.state.step_at < timedelta(seconds=3)


@scenario("5.10 a run that is not comparable waits until it is")
def _() -> None:
    world = pushed()

    world.reason = "NotComparable"
    world.run(120)

    assert world.state.paused_for == {Pause.NOT_COMPARABLE}
    world.reason = "Undecided"
    assert world.run(60).share(V2) == 50


@scenario("5.10 the load of the step before says nothing about this one")
def _() -> None:
    world = at(50)
    step_at = world.state.step_at
    assert step_at is not None

    for end, paused in ((step_at, frozenset()), (step_at + timedelta(seconds=30), {Pause.NOT_COMPARABLE})):
        judged = Judgement("Continue", "NotComparable", "uneven", window_end=end, has_canary_traffic=True)
        step = advance(world.state, replace(world.seen(), judgement=judged), world.now)
        assert step.state.paused_for == paused


@scenario("9.3 a step goes back in traffic first, and pods after the gateway took it")
def _() -> None:
    world = at(50, replicas=4)
    assert world.ready(V2) == 4

    world.robust, world.gateway_answers = 30.0, False
    world.run(60)

    assert (world.state.weight, world.ready(V2)) == (20, 4)
    world.gateway_answers = True
    assert world.run(3).ready(V2) == 1


test_scenario = scenario.test


@pytest.mark.parametrize("phase", [p for p in Phase if p not in (Phase.STABLE, Phase.ROLLED_BACK)])
@pytest.mark.parametrize("action", ["Promote", "Abort", "Retry", "Pause", "Resume"])
def test_every_action_in_every_phase_leaves_a_state_that_can_be_kept(phase: Phase, action: str) -> None:
    world = pushed()
    state = replace(world.state, phase=phase, run_id="r")
    if phase is Phase.BAKING:
        state = replace(state, stable=V2, previous=V1, candidate=None)
    seen = replace(world.seen(), action=Acted(action, "r"))
    for seconds in range(5):
        state = advance(state, seen, NOW + timedelta(hours=1, seconds=seconds)).state
        assert from_status(to_status(state)) == state
        assert state.stable is not None


def test_a_run_without_a_policy_takes_over_when_it_is_ready() -> None:
    world = served(rules=NO_POLICY)
    world.desired = V2
    world.until(Phase.STABLE, 60).run(40)
    assert world.state.stable == V2
