"""The scenarios of a rollout over the pure machine; each id begins with its number in the specification.

Each story reads as given, when, then, with an empty line between them.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from modelops.plan import Reason
from modelops.rollouts.machine import advance
from modelops.rollouts.rules import NO_POLICY, Stage, Undecided
from modelops.rollouts.seen import Judgement
from modelops.rollouts.starts import run_id
from modelops.rollouts.state import Acted, Awaits, Pause, Phase, Room, from_status, to_status
from tests.rollouts.world import NOW, RULES, V1, V2, V3, World, at, promoted, pushed, served, steps

MINUTE = timedelta(minutes=1)
REVOKED = Reason("Revoked", "chat-2: revoked")
STORIES: list[Callable[[], None]] = []
IDS: list[str] = []


def scenario(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def keep(story: Callable[[], None]) -> Callable[[], None]:
        STORIES.append(story)
        IDS.append(name)
        return story

    return keep


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


# --- analysis ----------------------------------------------------------------------------------------


@scenario("S34 no requests pause the run, fail nothing, and it goes on by itself with traffic")
def _() -> None:
    world = pushed()

    world.verdict, world.reason = "Inconclusive", "NoData"
    world.run(600)

    assert (world.state.paused_for, world.state.rejected) == ({Pause.NO_DATA}, ())
    world.verdict, world.reason = "Continue", "Undecided"
    assert world.run(60).share(V2) == 50


@scenario("S34 with noData: Continue it waits at its weight instead")
def _() -> None:
    world = pushed().change(pauses_without_data=False)

    world.verdict, world.reason = "Inconclusive", "NoData"
    world.run(600)

    assert (world.state.phase, world.share(V2)) == (Phase.PROGRESSING, 20)


@scenario("S36 without Prometheus the weight freezes, and after an hour the run pauses")
def _() -> None:
    world = pushed(has_metrics=False)

    world.away_since = world.now
    world.run(1800)

    assert (world.state.phase, world.share(V2)) == (Phase.PROGRESSING, 20)
    world.run(1900)
    assert world.state.paused_for == {Pause.METRICS_UNAVAILABLE}
    world.away_since, world.has_metrics = None, True
    assert world.run(90).share(V2) == 50


@scenario("S40 a run without a decision pauses, and a person promotes it")
def _() -> None:
    world = at(50)
    world.verdict, world.reason = "Inconclusive", "MaxDuration"
    world.until(Phase.PAUSED).run(10)

    world.act("Promote")

    assert world.until(Phase.BAKING).state.stable == V2


@scenario("S40 a run without a decision pauses, and a person aborts it")
def _() -> None:
    world = at(50)
    world.verdict, world.reason = "Inconclusive", "MaxDuration"
    world.until(Phase.PAUSED).run(10)

    world.act("Abort")

    assert world.until(Phase.ROLLED_BACK).state.stable == V1


@scenario("S40 onInconclusive: Promote promotes by itself when enough was judged")
def _() -> None:
    world = at(50).change(undecided=Undecided.PROMOTE, min_requests=500)

    world.verdict, world.reason = "Inconclusive", "MaxDuration"

    assert world.until(Phase.BAKING).state.stable == V2


@scenario("S40 onInconclusive: Rollback pauses while too little was judged, and goes back after")
def _() -> None:
    world = at(50, requests=10).change(undecided=Undecided.ROLL_BACK, min_requests=500)

    world.verdict, world.reason = "Inconclusive", "MaxDuration"
    world.run(30)

    assert world.state.paused_for == {Pause.INCONCLUSIVE}
    assert "onInconclusive: Rollback needs 500 judged canary requests, found 10" in world.state.message
    world.requests = 500
    world.until(Phase.ROLLED_BACK)
    assert world.state.reason == "Inconclusive"
    assert (
        "500 canary requests were judged, of which onInconclusive: Rollback needs 500" in world.state.message
    )


@scenario("S40 onInconclusive: Promote leaves what is not acceptable to a person, with its numbers")
def _() -> None:
    world = at(50).change(undecided=Undecided.PROMOTE, min_requests=500)

    world.verdict, world.reason, world.beyond = "Inconclusive", "MaxDuration", "errors 4% vs 1% (n=900, 900)"
    world.run(60)

    assert world.state.paused_for == {Pause.INCONCLUSIVE}
    assert "within what is unacceptable, found errors 4% vs 1% (n=900, 900)" in world.state.message
    world.beyond = None
    assert world.until(Phase.BAKING).state.stable == V2


@scenario("S40 onInconclusive: Promote leaves evidence of a regression to a person")
def _() -> None:
    world = at(50).change(undecided=Undecided.PROMOTE)

    world.verdict, world.reason, world.robust = "Inconclusive", "MaxDuration", 4.0

    assert world.run(60).state.paused_for == {Pause.INCONCLUSIVE}
    assert "a regression below 4:1, found 4:1" in world.state.message


@scenario("S40 onInconclusive: Rollback never goes back to a version that fails itself")
def _() -> None:
    world = at(50).change(undecided=Undecided.ROLL_BACK)

    world.verdict, world.reason, world.is_stable_healthy = "Inconclusive", "MaxDuration", False

    assert world.run(60).state.paused_for == {Pause.INCONCLUSIVE}
    assert "a healthy stable version, found it failing" in world.state.message


@scenario("S40 onInconclusive decides nothing while metrics are away or a person has paused the run")
def _() -> None:
    for undecided in (Undecided.PROMOTE, Undecided.ROLL_BACK):
        world = at(50).change(undecided=undecided)
        world.act("Pause")
        world.run(2).verdict, world.reason = "Inconclusive", "MaxDuration"
        assert world.run(60).state.phase is Phase.PAUSED

        world = at(50).change(undecided=undecided)
        world.away_since = world.now
        world.verdict, world.reason = "Inconclusive", "MaxDuration"
        assert world.run(60).state.paused_for == {Pause.INCONCLUSIVE}


@scenario("S41 onRegression: Hold keeps the weight and says so once")
def _() -> None:
    world = pushed().change(rolls_back=False)

    world.verdict = "Rollback"
    world.run(200)

    assert (world.state.phase, world.share(V2)) == (Phase.PROGRESSING, 20)
    assert world.events.count("RegressionHeld") == 1


@scenario("S42 what is kept of a long run is bounded")
def _() -> None:
    world = pushed()

    for _ in range(40):
        world.act("Pause").run(3)
        world.act("Resume").run(3)

    assert len(world.state.pauses) == 20
    assert all(a.end <= b.start for a, b in zip(world.state.pauses, world.state.pauses[1:], strict=False))


@scenario("S44 evidence that weather explains moves nothing back")
def _() -> None:
    world = at(50)

    world.robust = 19.0
    world.run(120)

    assert (world.share(V2), world.state.rejected) == (50, ())


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
    for_v2 = Acted("Promote", world.state.run_id, world.state.wait)

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


# --- blue-green, shadow, matched requests, replicas --------------------------------------------------

PREVIEW = Stage(dwell=timedelta(seconds=30), is_preview=True)
BLUE_GREEN = replace(RULES, steps=(), prelude=PREVIEW, bake=MINUTE)
MIRROR = Stage(mirror=10, dwell=MINUTE)
MATCHED = Stage(is_matched=True, dwell=timedelta(seconds=30))


@scenario("S57 BlueGreen: the whole candidate stands beside stable and gets nothing, then all at once")
def _() -> None:
    world = served(replicas=3, rules=BLUE_GREEN)

    world.desired = V2
    world.until(Phase.PROGRESSING).run(5)

    assert (world.deployments, world.share(V2)) == ({V1.hash: 3, V2.hash: 3}, 0)
    world.until(Phase.BAKING).run(2)
    assert world.weights == [0, 100, 0]
    assert world.routed == {V2.hash: 100}


@scenario("S57 BlueGreen: a preview has its own size, and full size before the switch")
def _() -> None:
    rules = replace(BLUE_GREEN, prelude=replace(PREVIEW, pods=1))
    world = served(replicas=3, rules=rules)

    world.desired = V2
    world.until(Phase.PROGRESSING).run(5)

    assert world.deployments == {V1.hash: 3, V2.hash: 1}
    world.until(Phase.BAKING)
    assert world.deployments[V2.hash] == 3


@scenario("S57 BlueGreen without autoPromote waits for a person's Promote")
def _() -> None:
    world = served(rules=replace(BLUE_GREEN, approves_promotion=True))
    world.desired = V2
    world.until(Phase.AWAITING_APPROVAL).run(60)
    assert world.share(V2) == 0

    world.act("Promote")

    assert world.until(Phase.BAKING).state.stable == V2


@scenario("S58 BlueGreen: harm before the switch never switches")
def _() -> None:
    world = served(rules=BLUE_GREEN)
    world.desired = V2
    world.until(Phase.PROGRESSING)

    world.verdict = "Rollback"
    world.until(Phase.ROLLED_BACK)

    assert 100 not in world.weights


@scenario("S58 BlueGreen: metrics that are away hold the switch")
def _() -> None:
    world = served(rules=BLUE_GREEN)
    world.desired = V2
    world.until(Phase.PROGRESSING)

    world.has_metrics, world.away_since = False, world.now
    world.run(300)

    assert world.share(V2) == 0
    world.away_since = None
    assert world.until(Phase.BAKING).state.stable == V2


@scenario("S59 BlueGreen: harm while it bakes switches back to the warm pods, in one write")
def _() -> None:
    world = served(rules=BLUE_GREEN)
    world.desired = V2
    world.until(Phase.BAKING).run(3)
    assert world.routed == {V2.hash: 100}
    world.checks += [stable_is_defined, no_traffic_without_pods]

    world.verdict = "Rollback"
    world.look()

    assert (world.state.stable, world.share(V1)) == (V1, 100)
    world.until(Phase.ROLLED_BACK).run(3)
    assert world.state.rejected[0].hash == V2.hash
    assert set(world.deployments) == {V1.hash}


@scenario("S59 crashes while it bakes switch back without metrics")
def _() -> None:
    world = served(rules=BLUE_GREEN)
    world.desired = V2
    world.until(Phase.BAKING).run(3)

    world.restarts = 4
    world.until(Phase.ROLLED_BACK)

    assert (world.state.stable, world.state.reason) == (V1, "RestartLimit")


@scenario("S59 a person's Abort while it bakes switches back")
def _() -> None:
    world = served(rules=BLUE_GREEN)
    world.desired = V2
    world.until(Phase.BAKING).run(3)

    world.act("Abort")

    assert world.until(Phase.ROLLED_BACK).state.stable == V1


@scenario("S60 BlueGreen: many quick pushes keep stable and one preview")
def _() -> None:
    world = served(replicas=2, rules=BLUE_GREEN)

    for revision in (V2, V3, V2, V3, V2):
        world.desired = revision
        world.run(4)
        assert sum(world.deployments.values()) <= 4

    assert world.until(Phase.BAKING).state.stable == V2


@scenario("S61 Shadow: copies of requests and no request, then the steps")
def _() -> None:
    world = served(rules=replace(RULES, prelude=MIRROR))

    world.desired = V2
    world.until(Phase.PROGRESSING).run(30)

    assert (world.route.mirror, world.share(V2)) == ((V2.hash, 10), 0)
    world.run(60)
    assert (world.route.mirror, world.share(V2)) == (None, 20)


@scenario("S61 Shadow then Promote: nothing is promoted without proof")
def _() -> None:
    world = served(rules=replace(RULES, steps=(), prelude=MIRROR))
    world.desired = V2
    world.until(Phase.PROGRESSING).run(900)
    assert (world.state.phase, world.share(V2)) == (Phase.PROGRESSING, 0)

    world.verdict = "Promote"

    assert world.until(Phase.BAKING).state.stable == V2


@scenario("S61 Shadow then Stop: copies end, and a person decides")
def _() -> None:
    world = served(rules=replace(RULES, steps=(), prelude=replace(MIRROR, is_final=True)))
    world.desired = V2

    world.until(Phase.AWAITING_APPROVAL).run(60)

    assert (world.route.mirror, world.share(V2), world.ready(V2)) == (None, 0, 1)
    world.act("Abort")
    assert world.until(Phase.ROLLED_BACK).state.stable == V1


@scenario("S61 Shadow: harm in the copies goes back, and pods stay until the copies have ended for certain")
def _() -> None:
    world = served(rules=replace(RULES, prelude=MIRROR))
    world.desired = V2
    world.until(Phase.PROGRESSING).run(5)

    world.verdict, world.gateway_answers = "Rollback", False
    world.run(60)

    assert (world.state.phase, world.ready(V2)) == (Phase.ROLLING_BACK, 1)
    world.gateway_answers = True
    world.until(Phase.ROLLED_BACK)
    assert world.route.mirror is None


@scenario("S62 matched requests alone go to the candidate, and the rule goes with an abort")
def _() -> None:
    world = served(rules=replace(RULES, steps=(MATCHED,)))
    world.desired = V2
    world.until(Phase.PROGRESSING).run(5)
    assert (world.route.matched, world.share(V2)) == (V2.hash, 0)

    world.act("Abort").until(Phase.ROLLED_BACK)

    assert world.route.matched == ""


@scenario("S62 matched requests: the rule goes with the promotion")
def _() -> None:
    world = served(rules=replace(RULES, steps=(MATCHED,)))
    world.desired = V2
    world.until(Phase.PROGRESSING).run(5)

    world.verdict = "Promote"
    world.until(Phase.BAKING).run(2)

    assert (world.route.matched, world.routed) == ("", {V2.hash: 100})


@scenario("S64 without a gateway 10 percent of ten pods is one of ten")
def _() -> None:
    world = served(replicas=10, rules=replace(RULES, room=Room.SPLIT, steps=steps(10)))

    world.desired = V2
    world.until(Phase.PROGRESSING).run(5)

    assert world.deployments == {V1.hash: 9, V2.hash: 1}


@scenario("S64 without a gateway 10 percent of three pods is a fourth pod")
def _() -> None:
    world = served(replicas=3, rules=replace(RULES, room=Room.SPLIT, steps=steps(10)))

    world.desired = V2
    world.until(Phase.PROGRESSING).run(5)

    assert world.deployments == {V1.hash: 3, V2.hash: 1}


@scenario("S64 without a gateway steps that change no number of pods are merged")
def _() -> None:
    world = served(replicas=4, rules=replace(RULES, room=Room.SPLIT, steps=steps(5, 10, 20, 50)))

    world.desired = V2
    world.until(Phase.PROGRESSING).run(150)

    assert [w for w in world.weights if w] == [5, 20, 50]


@scenario("capacity Recreate: the downtime is told, stable ends before the candidate starts")
def _() -> None:
    world = served(replicas=2, room=2, rules=replace(RULES, room=Room.RECREATE, steps=()))
    world.checks.append(lambda w: assert_(sum(w.pods.values()) <= 2, "more pods than there is room for"))

    world.desired = V2
    world.until(Phase.BAKING).run(2)

    assert world.events.count("Downtime") == 1
    assert world.routed == {V2.hash: 100}
    assert world.deployments == {V1.hash: 0, V2.hash: 2}


@scenario("capacity Recreate: a candidate that does not come up brings stable back")
def _() -> None:
    world = served(replicas=2, room=2, rules=replace(RULES, room=Room.RECREATE, steps=()))

    world.desired, world.candidate_comes_up = V2, False
    world.until(Phase.ROLLED_BACK, 2000).run(3)

    assert (world.deployments, world.ready(V1)) == ({V1.hash: 2}, 2)


@scenario("capacity Recreate: a gate that closes in the downtime brings stable back")
def _() -> None:
    world = served(room=1, rules=replace(RULES, room=Room.RECREATE, steps=()))
    world.desired, world.candidate_comes_up = V2, False
    world.run(5)
    assert world.ready(V1) == 0

    world.hold = REVOKED
    world.run(3)

    assert (world.state.phase, world.ready(V1)) == (Phase.AWAITING_APPROVAL, 1)


# --- lifecycle ---------------------------------------------------------------------------------------


@scenario("S67 a policy that is deleted in mid-run pauses at the current weight")
def _() -> None:
    world = pushed()

    world.rules = None
    world.run(600)

    assert (world.state.paused_for, world.share(V2)) == ({Pause.POLICY_MISSING}, 20)
    world.rules = RULES
    assert world.run(60).share(V2) == 50


@scenario("rule 5: a version revoked in mid-run is held at its weight, and goes on when it may again")
def _() -> None:
    world = pushed()

    world.hold = REVOKED
    world.run(120)

    assert (world.state.paused_for, world.share(V2)) == ({Pause.HELD}, 20)
    world.hold = None
    assert world.run(60).share(V2) == 50


@scenario("S69 each transition is told once")
def _() -> None:
    world = pushed()

    world.desired = V3
    world.until(Phase.STARTING).until(Phase.PROGRESSING).run(2)
    world.act("Abort").until(Phase.ROLLED_BACK)
    world.act("Retry").until(Phase.PROGRESSING).run(60)
    promoted(world)

    told = [e for e in world.events if e != "WeightChanged"]
    assert told == [
        "Started", "Serving", "Started", "Superseded", "Started", "Aborted", "Retried", "Started", "Promoted",
    ]  # fmt: skip


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


@pytest.mark.parametrize("story", STORIES, ids=IDS)
def test_scenario(story: Callable[[], None]) -> None:
    story()


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


# --- what holds at every instant ---------------------------------------------------------------------


def assert_(holds: bool, sentence: str) -> None:
    assert holds, sentence


def stable_is_defined(world: World) -> None:
    assert world.state.stable is not None


def no_traffic_without_pods(world: World) -> None:
    for revision in (V1, V2, V3):
        assert not world.share(revision) or world.ready(revision), (revision, world.state)


def enough_stable_pods(world: World) -> None:
    """I7: stable can carry its share of the requests."""
    stable = world.state.stable
    assert stable is not None
    assert 100 * world.ready(stable) >= world.share(stable) * world.replicas, world.state
