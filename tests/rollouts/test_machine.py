"""Scenarios of the rollout: given a service, when something happens, then the next state."""

from dataclasses import replace
from datetime import timedelta

import pytest

from modelops.plan import Reason
from modelops.rollouts.capacity import candidate_pods
from modelops.rollouts.machine import advance
from modelops.rollouts.rules import NO_POLICY
from modelops.rollouts.seen import Route
from modelops.rollouts.starts import run_id
from modelops.rollouts.state import Acted, Pause, Phase, Rollout
from tests.rollouts.world import NOW, RULES, V1, V2, V3, World, pushed, served, steps


def test_a_first_version_gets_everything_when_it_is_ready():
    world = served()
    assert world.state.stable == V1
    assert world.routed == {V1.hash: 100}
    assert world.events == ["Started", "Serving"]


def test_no_route_exists_before_anything_is_ready():
    world = World(candidate_comes_up=False).run(60)
    assert world.routed == {}
    assert world.state.stable is None


def test_a_new_version_gets_traffic_only_after_its_warm_up():
    world = served()
    world.desired = V2
    world.run(10)
    assert world.state.phase is Phase.STARTING
    assert world.routed.get(V2.hash, 0) == 0
    world.run(4)
    assert world.routed[V2.hash] == 20


def test_weights_are_exactly_the_steps_and_then_all():
    world = pushed()
    world.run(90)
    world.verdict, world.reason = "Promote", "CertificateComplete"
    world.until(Phase.BAKING)
    assert world.weights == [0, 20, 50, 100, 0]
    assert world.state.stable == V2
    assert world.state.previous == V1
    world.until(Phase.STABLE)
    assert world.state.previous is None


def test_the_last_step_waits_for_the_certificate():
    world = pushed().run(300)
    assert world.state.phase is Phase.PROGRESSING
    assert world.state.weight == 50


def test_evidence_of_harm_sends_everything_back_and_remembers_it():
    world = pushed()
    world.verdict, world.reason = "Rollback", "RegressionEvidence"
    world.until(Phase.ROLLED_BACK)
    assert world.routed == {V1.hash: 100}
    assert world.state.rejected[0].hash == V2.hash
    assert world.state.stable == V1


def test_a_rejected_revision_starts_nothing_when_it_is_applied_again():
    world = pushed()
    world.verdict = "Rollback"
    world.until(Phase.ROLLED_BACK)
    world.verdict = "Continue"
    before = world.state
    world.run(120)
    assert world.state == replace(before, accepted=world.state.accepted)


def test_a_retry_that_names_the_run_starts_it_again_with_a_new_run():
    world = pushed()
    first = world.state.run_id
    world.verdict = "Rollback"
    world.until(Phase.ROLLED_BACK)
    world.verdict = "Continue"
    world.action = Acted("Retry", first)
    world.until(Phase.PROGRESSING)
    assert world.state.run_id == run_id(V2, 1) != first


def test_a_retry_for_another_run_does_nothing():
    world = pushed()
    world.verdict = "Rollback"
    world.until(Phase.ROLLED_BACK)
    world.action = Acted("Retry", "other")
    world.run(30)
    assert world.state.phase is Phase.ROLLED_BACK


def test_the_rolled_back_state_ends_when_the_served_version_is_wanted_again():
    world = pushed()
    world.verdict = "Rollback"
    world.until(Phase.ROLLED_BACK)
    world.desired = V1
    world.until(Phase.STABLE)
    assert world.state.candidate is None


def test_without_a_word_of_the_judge_nothing_moves():
    world = pushed()
    world.has_metrics = False
    world.run(600)
    assert (world.state.phase, world.state.weight) == (Phase.PROGRESSING, 20)


@pytest.mark.parametrize(
    ("robust", "weight"),
    [
        pytest.param(3.9, 50, id="below the bar of 4 it is raised"),
        pytest.param(4.0, 20, id="from 4 on it is held"),
        pytest.param(99.0, 20, id="below 100 it is not rolled back"),
    ],
)
def test_evidence_holds_a_raise(robust, weight):
    world = pushed()
    world.robust = robust
    world.run(70)
    assert world.state.weight == weight


def test_evidence_past_twenty_goes_one_step_back():
    world = pushed().run(70)
    assert world.state.weight == 50
    world.robust = 20.0
    world.run(40)
    assert world.state.weight == 20


def test_a_weight_waits_for_the_gateway():
    world = pushed()
    world.gateway_answers = False
    world.run(60)
    assert (world.state.weight, world.state.accepted, world.share(V2)) == (50, None, 20)
    world.verdict = "Promote"
    world.run(300)
    assert world.state.paused_for == {Pause.ROUTE_NOT_ACCEPTED}
    assert world.weights == [0, 20]
    world.gateway_answers = True
    world.until(Phase.PROMOTING)


def test_unready_candidate_pods_get_nothing():
    world = pushed()
    world.candidate_comes_up = False
    world.look()
    assert world.routed[V2.hash] == 0


def test_a_candidate_that_lost_its_pods_is_not_the_gateways_fault():
    world = pushed()
    world.candidate_comes_up = False
    world.run(300)
    assert world.state.phase is Phase.PROGRESSING


def test_a_closed_gate_holds_the_candidate_without_pods():
    world = served()
    world.hold = Reason("ApprovalMissing", "chat-2: needs 1 approval")
    world.desired = V2
    world.run(30)
    assert world.state.phase is Phase.AWAITING_APPROVAL
    assert world.state.message == "chat-2: needs 1 approval"
    assert world.routed == {V1.hash: 100}
    world.hold = None
    world.until(Phase.PROGRESSING)


def test_waiting_for_people_is_no_missed_deadline():
    world = served()
    world.rules = replace(RULES, progress_deadline=timedelta(seconds=60))
    world.hold = Reason("ApprovalMissing", "chat-2: needs 1 approval")
    world.desired = V2
    world.run(600)
    assert world.state.phase is Phase.AWAITING_APPROVAL
    world.hold = None
    world.until(Phase.PROGRESSING)


def test_a_newer_version_without_approval_never_starts_in_the_place_of_the_older_one():
    world = served()
    world.desired = V2
    world.until(Phase.STARTING)
    world.desired, world.hold = V3, Reason("ApprovalMissing", "chat-3: needs 1 approval")
    world.look()
    assert (world.state.phase, world.state.candidate) == (Phase.AWAITING_APPROVAL, V3)


def test_a_gate_that_closes_before_the_first_request_takes_the_candidate_back():
    world = World().until(Phase.STARTING)
    world.hold = Reason("Revoked", "chat-1: revoked")
    world.run(60)
    assert (world.state.phase, world.state.stable) == (Phase.AWAITING_APPROVAL, None)


def test_a_gate_that_closes_in_mid_run_pauses_and_never_raises():
    world = pushed()
    world.hold = Reason("Revoked", "chat-2: revoked")
    world.run(120)
    assert world.state.phase is Phase.PAUSED
    assert world.state.weight == 20


def test_a_closed_gate_never_stops_a_rollback():
    world = pushed()
    world.hold = Reason("Revoked", "chat-2: revoked")
    world.verdict = "Rollback"
    world.until(Phase.ROLLED_BACK)


def test_waiting_for_capacity_is_nobodys_failure():
    world = served()
    world.desired, world.waits = V2, True
    world.hold = Reason("WaitingForCapacity", "chat: needs 1 GPU")
    world.rules = replace(RULES, progress_deadline=timedelta(seconds=20))
    world.run(300)
    assert world.state.phase is Phase.STARTING
    assert world.state.rejected == ()


def test_a_candidate_that_never_gets_ready_is_rolled_back_at_its_deadline():
    world = served()
    world.desired, world.candidate_comes_up = V2, False
    world.rules = replace(RULES, progress_deadline=timedelta(seconds=60))
    world.run(58)
    assert world.state.phase is Phase.STARTING
    world.until(Phase.ROLLED_BACK)
    assert world.state.reason == "DeadlineExceeded"


def test_too_many_restarts_roll_back_without_metrics():
    world = served()
    world.desired, world.candidate_comes_up, world.restarts = V2, False, 4
    world.until(Phase.ROLLED_BACK)
    assert world.state.reason == "RestartLimit"


def test_a_newer_version_waits_until_traffic_left_the_older_one():
    world = pushed()
    world.desired, world.gateway_answers = V3, False
    world.run(5)
    assert world.state.phase is Phase.SUPERSEDING
    assert world.state.candidate == V2
    world.gateway_answers = True
    world.until(Phase.STARTING)
    assert world.state.candidate == V3
    assert world.state.frozen == {}


def test_the_served_version_wanted_again_takes_traffic_back_at_once():
    world = pushed()
    world.desired = V1
    world.look()
    assert world.routed == {V1.hash: 100, V2.hash: 0}
    world.until(Phase.STABLE)
    assert world.state.rejected == ()


def test_a_version_served_before_skips_the_steps():
    world = pushed().run(90)
    world.verdict = "Promote"
    world.until(Phase.BAKING).until(Phase.STABLE)
    world.verdict, world.desired, world.weights = "Continue", V1, []
    world.until(Phase.BAKING)
    assert world.state.stable == V1
    assert 20 not in world.weights


def test_without_a_policy_readiness_replaces():
    world = served()
    world.rules, world.desired = NO_POLICY, V2
    world.until(Phase.STABLE, 30).run(30)
    assert world.state.stable == V2


def test_a_missing_policy_pauses_the_run_where_it_is():
    world = pushed()
    world.rules = None
    world.run(60)
    assert (world.state.phase, world.state.weight) == (Phase.PAUSED, 20)
    world.rules = RULES
    world.until(Phase.PROGRESSING)


def test_a_waiting_step_ends_with_a_persons_resume():
    world = served()
    world.rules, world.desired = replace(RULES, steps=(*steps(20, waits=True), *steps(50))), V2
    world.until(Phase.PAUSED).run(200)
    assert world.state.weight == 20
    world.action = Acted("Resume", world.state.run_id)
    world.run(60)
    assert world.state.weight == 50


def test_a_run_without_a_decision_goes_on_when_a_person_says_so():
    world = pushed()
    world.verdict, world.reason = "Inconclusive", "MaxDuration"
    world.until(Phase.PAUSED).run(60)
    world.action = Acted("Resume", world.state.run_id)
    world.run(60)
    assert world.state.phase is Phase.PROGRESSING


def test_nobody_promotes_past_a_closed_gate():
    world = pushed()
    world.hold = Reason("Revoked", "chat-2: revoked")
    world.action = Acted("Promote", world.state.run_id)
    world.run(60)
    assert world.state.phase is Phase.PAUSED
    assert world.state.stable == V1


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.PROGRESSING, Phase.PROMOTING])
def test_a_person_aborts_in_every_phase(phase):
    world = served()
    world.desired, world.verdict = V2, "Promote"
    world.gateway_answers = phase is not Phase.PROMOTING
    if phase is Phase.PROMOTING:
        world = pushed()
        world.run(70)
        world.verdict, world.gateway_answers = "Promote", False
    world.until(phase)
    world.action = Acted("Abort", world.state.run_id)
    world.gateway_answers = True
    world.until(Phase.ROLLED_BACK)
    assert world.state.stable == V1


def test_traffic_must_have_left_for_certain_before_pods_go():
    """A gateway that has not answered for the last write may still send to the candidate."""
    world = pushed()
    seen = replace(world.seen(), desired=V1, route=Route(None))
    state = advance(world.state, seen, world.now).state
    for minutes in range(1, 100):
        state = advance(state, seen, NOW + timedelta(minutes=minutes)).state
    assert (state.phase, state.candidate) == (Phase.REVERTING, V2)
    accepted = replace(seen, route=Route(0, V1.hash))
    assert advance(state, accepted, NOW + timedelta(hours=2)).state.candidate is None


def test_a_policy_that_loses_steps_in_mid_run_promotes_nothing_without_a_certificate():
    world = pushed().run(60)
    assert world.state.step == 1
    world.rules = replace(RULES, steps=steps(20))
    world.run(300)
    assert world.state.phase is Phase.PROGRESSING
    world.verdict = "Promote"
    world.until(Phase.PROMOTING)


def test_a_rejected_version_does_not_take_over_from_a_broken_stable():
    world = pushed()
    world.verdict = "Rollback"
    world.look()
    assert world.state.phase is Phase.ROLLING_BACK
    world.stable_ready = 0
    world.run(5)
    assert world.state.stable == V1


def test_a_newer_version_ends_the_time_that_the_old_one_is_kept_warm():
    world = pushed().run(90)
    world.verdict = "Promote"
    world.until(Phase.BAKING)
    world.desired = V3
    world.look()
    assert (world.state.candidate, world.state.previous) == (V3, None)


def test_a_broken_stable_gives_way_to_a_ready_candidate():
    world = pushed()
    world.stable_ready = 0
    world.look()
    assert world.state.stable == V2


@pytest.mark.parametrize(
    ("replicas", "weight", "pods"),
    [(1, 5, 1), (10, 10, 2), (10, 50, 10), (10, 90, 10), (3, 25, 1), (4, 100, 4)],
)
def test_candidate_pods_carry_stables_load_each(replicas, weight, pods):
    assert candidate_pods(Rollout(capacity=weight), replicas) == pods
