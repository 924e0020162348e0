"""Scenarios over the pure machine: blue-green, shadow, matched requests, numbers of pods as shares."""

from dataclasses import replace
from datetime import timedelta

from modelops.plan import Reason
from modelops.rollouts.rules import Stage
from modelops.rollouts.state import Phase, Room
from tests.rollouts.stories import (
    Stories,
    assert_,
    no_traffic_without_pods,
    stable_is_defined,
)
from tests.rollouts.world import RULES, V1, V2, V3, served, steps

scenario = Stories()
REVOKED = Reason("Revoked", "chat-2: revoked")
MINUTE = timedelta(minutes=1)


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


test_scenario = scenario.test
