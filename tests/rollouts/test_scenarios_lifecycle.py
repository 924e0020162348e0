"""Scenarios over the pure machine: what happens to a service in mid-run."""

from modelops.plan import Reason
from modelops.rollouts.state import Pause, Phase
from tests.rollouts.stories import Stories
from tests.rollouts.world import RULES, V2, V3, promoted, pushed

scenario = Stories()
REVOKED = Reason("Revoked", "chat-2: revoked")


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


test_scenario = scenario.test
