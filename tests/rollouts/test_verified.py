"""What is believed of the route, second by second over the pure machine."""

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from modelops.plan import Reason
from modelops.rollouts.machine import advance
from modelops.rollouts.seen import Route, Seen
from modelops.rollouts.state import Acted, Phase, Rollout, from_status, to_status
from tests.rollouts.world import NOW, RULES, V2, World, at, pushed, served

WRONG = Reason("TrafficSplitMismatch", "chat: counted 40 % of 1000")
TIMEOUT = RULES.accept_timeout


@dataclass
class Observed(World):
    """A world whose gateway may say Accepted alone, and whose requests may go another way."""

    is_terse: bool = False
    misrouted: Reason | None = None

    def seen(self) -> Seen:
        seen = super().seen()
        if self.is_terse and seen.route.candidate_weight is not None and self.route is not None:
            seen = replace(seen, route=Route(None, alone=seen.route))
        return replace(seen, misrouted=self.misrouted)


def observed(world: World, **more) -> Observed:
    """Return *world* with what is seen of it under the control of the test."""
    return Observed(**{**vars(world), **more})


# --- the counted share -------------------------------------------------------------------------------


def test_9_2_a_step_is_held_while_the_requests_go_another_way_and_that_is_told_once():
    world = observed(at(20), misrouted=WRONG).run(300)
    assert (world.state.phase, world.state.weight) == (Phase.PROGRESSING, 20)
    assert world.events.count("TrafficSplitMismatch") == 1
    world.misrouted = None
    world.run(60)
    assert world.state.weight == 50
    assert not world.state.is_misrouted


def test_9_2_nothing_is_promoted_while_the_requests_go_another_way():
    world = observed(at(50), misrouted=WRONG, verdict="Promote", reason="CertificateComplete").run(300)
    assert world.state.phase is Phase.PROGRESSING
    world.misrouted = None
    world.until(Phase.BAKING)


@pytest.mark.parametrize(
    ("change", "phase"),
    [
        pytest.param({"verdict": "Rollback"}, Phase.ROLLED_BACK, id="harm still rolls back"),
        pytest.param({"restarts": 9}, Phase.ROLLED_BACK, id="restarts still roll back"),
    ],
)
def test_9_2_a_wrong_split_stops_no_way_back(change, phase):
    observed(at(20), misrouted=WRONG, **change).until(phase)


def test_9_2_evidence_still_steps_back():
    world = observed(at(50), misrouted=WRONG, robust=25.0).run(60)
    assert world.state.weight == 20


def test_9_2_a_person_may_promote_all_the_same():
    world = observed(at(20), misrouted=WRONG)
    world.action = Acted("Promote", world.state.run_id)
    world.until(Phase.BAKING)


def test_9_2_a_step_without_analysis_is_held_too():
    world = observed(at(20), misrouted=WRONG, rules=replace(RULES, is_analysed=False), verdict="Promote")
    assert world.run(120).state.weight == 20


# --- Accepted alone ----------------------------------------------------------------------------------


def test_9_2_accepted_alone_counts_after_the_timeout_and_is_told_once():
    world = observed(served(), is_terse=True, desired=V2)
    world.run(int(TIMEOUT.total_seconds()) + 1)
    assert world.events.count("ResolvedRefsMissing") == 1
    assert world.state.takes_alone
    world.until(Phase.PROGRESSING).run(3)
    assert world.state.accepted == 20, "the next write is believed at once"
    while world.state.weight != 50:
        world.run(1)
    world.verdict = "Promote"
    world.until(Phase.BAKING).until(Phase.STABLE)
    assert world.events.count("ResolvedRefsMissing") == 1


def test_9_2_before_the_timeout_accepted_alone_is_no_answer():
    world = observed(pushed(), is_terse=True)
    world.verdict = "Promote"
    weight = world.state.weight
    world.run(int(TIMEOUT.total_seconds()) - 5)
    assert world.state.weight in (weight, 50)
    assert not world.state.takes_alone


def test_9_2_a_gateway_that_speaks_up_is_asked_again():
    world = observed(served(), is_terse=True).run(int(TIMEOUT.total_seconds()) + 1)
    assert world.state.takes_alone
    world.is_terse = False
    world.run(2)
    assert not world.state.takes_alone


def test_9_2_the_timeout_begins_anew_with_every_write_until_it_is_known():
    world = observed(pushed(), is_terse=True)
    half = Seen("chat", V2, RULES, route=Route(None, alone=Route(20)))
    state = replace(world.state, alone_at=None)
    state = advance(state, half, NOW).state
    pending = replace(half, route=Route(None))
    state = advance(state, pending, NOW + TIMEOUT / 2).state
    assert state.alone_at is None
    state = advance(state, half, NOW + TIMEOUT).state
    assert not state.takes_alone


def test_the_wait_for_the_gateways_word_wakes_the_next_look():
    seen = Seen("chat", None, RULES, route=Route(None, alone=Route(0)))
    step = advance(Rollout(stable=V2, alone_at=NOW), seen, NOW + timedelta(seconds=20))
    assert step.after == TIMEOUT - timedelta(seconds=20)


def test_what_is_believed_is_remembered():
    state = Rollout(is_misrouted=True, alone_at=NOW, takes_alone=True)
    assert from_status(to_status(state)) == state


@pytest.mark.parametrize("what", ["mirror", "is_matched", "is_pinned"])
def test_a_route_is_clear_only_without_any_way_to_the_candidate(what):
    assert Route(0).is_clear
    assert not Route(0, **{what: 1}).is_clear
