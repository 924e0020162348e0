"""Scenarios over the pure machine: what the judge says, and what its silence does."""

from modelops.rollouts.rules import Undecided
from modelops.rollouts.state import Pause, Phase
from tests.rollouts.stories import Stories
from tests.rollouts.world import V1, V2, at, pushed

scenario = Stories()


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


test_scenario = scenario.test
