"""The laws I1 to I7 under any order of events, lost passes, and kills between any two effects of a pass."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.plan import Reason
from modelops.rollouts.rules import NO_POLICY, Rules, Stage
from modelops.rollouts.state import Acted, Phase, Room, from_status, to_status
from tests.rollouts.world import MODEL, RULES, SECOND, V1, V2, V3, World, served, steps

PREVIEW = Stage(dwell=timedelta(seconds=10), is_preview=True)
MIRROR = Stage(mirror=10, dwell=timedelta(seconds=10))
POLICIES = {
    "canary": RULES,
    "shrinking": replace(RULES, room=Room.DYNAMIC_STABLE, steps=steps(25, 75)),
    "by pods": replace(RULES, room=Room.SPLIT, steps=steps(25, 75)),
    "recreate": replace(RULES, room=Room.RECREATE, steps=()),
    "blue-green": replace(RULES, steps=(), prelude=PREVIEW),
    "shadow": replace(RULES, prelude=MIRROR),
    "matched": replace(RULES, steps=(Stage(is_matched=True, dwell=timedelta(seconds=10)),)),
    "approved": replace(RULES, approves_start=True, approves_promotion=True, steps=steps(20, waits=True)),
    "none": NO_POLICY,
}
REVOKED = Reason("Revoked", "revoked")
EVENTS: tuple[tuple[str, Any], ...] = (
    ("desired", V1), ("desired", V2), ("desired", V3), ("desired", None),
    ("verdict", "Continue"), ("verdict", "Promote"), ("verdict", "Rollback"), ("verdict", "Inconclusive"),
    ("hold", None), ("hold", REVOKED),
    ("gateway_answers", False), ("gateway_answers", True),
    ("candidate_comes_up", False), ("candidate_comes_up", True),
    ("has_metrics", False), ("has_metrics", True),
    ("robust", 1.0), ("robust", 5.0), ("robust", 30.0),
    ("stable_ready", 0), ("stable_ready", 1), ("stable_ready", None),
    ("room", 3), ("room", None), ("replicas", 1), ("replicas", 5),
    ("restarts", 9), ("restarts", 0),
    ("act", "Pause"), ("act", "Resume"), ("act", "Promote"), ("act", "Abort"), ("act", "Retry"),
    ("rules", None), ("suspend", True), ("suspend", False),
)  # fmt: skip


@dataclass(frozen=True)
class Happening:
    """Something happens, then passes follow, some lost (None) and some killed after so many effects."""

    name: str
    value: Any
    passes: tuple[int | None, ...]


WHOLE = 99
TROUBLE = st.lists(st.sampled_from([WHOLE, None, 0, 1, 2, 3]), max_size=4)
PASSES = st.builds(lambda trouble, calm: (*trouble, *[WHOLE] * calm), TROUBLE, st.integers(1, 50))
HAPPENINGS = st.builds(lambda event, passes: Happening(*event, passes), st.sampled_from(EVENTS), PASSES)
TALE = st.builds(
    lambda seconds, rest: [Happening("desired", V2, (WHOLE,) * seconds), *rest],
    st.integers(1, 100),
    st.lists(HAPPENINGS, min_size=1, max_size=6),
)


def happens(world: World, happening: Happening, rules: Rules) -> None:
    match happening.name:
        case "act":
            run = _run(world, happening.value)
            world.action = Acted(happening.value, run, world.state.wait, "alice", MODEL)
        case "rules":
            world.rules = None if world.rules else rules
        case "suspend":
            world.rules = replace(rules, is_suspended=happening.value)
        case name:
            setattr(world, name, happening.value)


def _run(world: World, action: str) -> str:
    """Return the run that is shown, or for a Retry the one that was rolled back last."""
    marks = world.state.rejected
    return marks[-1].run_id if action == "Retry" and marks else world.state.run_id


def passes(world: World, effects: Sequence[int | None]) -> None:
    for count in effects:
        world.now += SECOND
        if count is None:
            world.follow()
        else:
            world.look(effects=None if count == WHOLE else count)


# --- the laws ----------------------------------------------------------------------------------------


class Laws:
    """What holds after every effect of every pass; it remembers what was there before."""

    def __init__(self, world: World) -> None:
        self.before = world.state
        self.routed = world.routed
        self.pods = dict(world.deployments)
        self.desired = world.replicas

    def __call__(self, world: World) -> None:
        state = world.state
        assert state.stable is not None, "I3"
        self._pods_outlive_traffic(world)
        self._weights_rise_onto_pods(world)
        self._silence_decides_nothing(world)
        self._rejected_stay_away(world)
        assert from_status(to_status(state)) == state
        assert len(state.pauses) <= 20
        self.before, self.pods, self.routed = state, dict(world.deployments), world.routed

    def _pods_outlive_traffic(self, world: World) -> None:
        """I2: nothing that an accepted or written route sends to loses its pods."""
        for revision, count in self.pods.items():
            goes = not world.deployments.get(revision, 0) and count > 0
            is_vacated = world.state.room is Room.RECREATE and world.state.stable_capacity == 0
            if goes and not is_vacated:
                assert not world.routed.get(revision), ("I2", revision, world.state)

    def _weights_rise_onto_pods(self, world: World) -> None:
        """I1: a weight is raised one step at a time, and only onto pods that are ready."""
        before, state = self.before, world.state
        if state.weight <= before.weight or state.run_id != before.run_id or state.is_leaving:
            return
        if state.weight < 100:
            assert state.step == before.step + 1 or world.rules is None or state.room is Room.SPLIT, state
        assert state.phase in (Phase.PROGRESSING, Phase.PROMOTING), ("I1", state)
        if state.room is not Room.SPLIT:
            assert 100 * world.ready(state.candidate) >= state.weight * world.replicas, ("I1", state)
        assert world.ready(state.candidate) > 0, ("I1", state)

    def _silence_decides_nothing(self, world: World) -> None:
        """I4: without a word of the judge an analysed run is neither raised nor judged to be harmful."""
        before, state = self.before, world.state
        is_told = world.has_metrics or world.action is not None
        rules = world.rules
        if is_told or rules is None or not rules.is_analysed or not before.is_at_step or not rules.steps:
            return
        if before.run_id == state.run_id and not state.is_leaving:
            assert state.weight <= before.weight or world.stable_ready is not None, ("I4", state)
        if state.phase is Phase.ROLLING_BACK:
            assert state.reason in ("RestartLimit", "DeadlineExceeded", "CapacityDeadlineExceeded"), state

    def _rejected_stay_away(self, world: World) -> None:
        """I6: a rejected revision has no run that goes forward, unless a Retry took it off the list."""
        state = world.state
        if state.candidate is not None and not state.is_leaving:
            assert state.candidate.hash not in [r.hash for r in state.rejected], ("I6", state)


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=18, deadline=None)
@given(tale=TALE)
def test_the_laws_hold_whatever_happens(policy: str, tale: list[Happening]) -> None:
    rules = POLICIES[policy]
    world = served(rules=rules, replicas=4)
    world.pace = 1
    world.checks.append(Laws(world))
    for happening in tale:
        happens(world, happening, rules)
        passes(world, happening.passes)


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=15, deadline=None)
@given(tale=TALE)
def test_endpoints_that_vanish_lose_their_traffic_within_one_pass(policy: str, tale: list[Happening]) -> None:
    rules = POLICIES[policy]
    world = served(rules=rules, replicas=2)
    for happening in tale:
        happens(world, happening, rules)
        passes(world, happening.passes)
    world.gateway_answers = True
    world.look()
    candidate = world.state.candidate
    if candidate is not None and not world.ready(candidate):
        world.look()
        if world.state.candidate == candidate:
            assert world.share(candidate) == 0


@pytest.mark.parametrize("policy", ["canary", "shrinking", "by pods", "blue-green", "shadow"])
@settings(max_examples=15, deadline=None)
@given(tale=TALE)
def test_stable_can_always_carry_its_share(policy: str, tale: list[Happening]) -> None:
    """I7, where pods go only because the rollout took them."""
    rules = POLICIES[policy]
    world = served(rules=rules, replicas=4)
    world.pace = 1
    world.checks.append(_carries)
    for happening in tale:
        if happening.name in ("stable_ready", "room", "replicas", "candidate_comes_up"):
            continue
        happens(world, happening, rules)
        passes(world, happening.passes)


def _carries(world: World) -> None:
    for revision, share in world.routed.items():
        there = world.pods.get(revision, 0)
        if share == 100 or (world.state.stable and revision == world.state.stable.hash):
            assert 100 * there >= share * world.replicas, ("I7", revision, share, there, world.state)


STORY = (
    ("desired", V2),
    ("verdict", "Promote"),
    ("desired", V3),
    ("verdict", "Rollback"),
)


@pytest.mark.parametrize("policy", ["canary", "shrinking", "by pods", "blue-green", "shadow", "recreate"])
@settings(max_examples=20, deadline=None)
@given(kills=st.lists(st.sampled_from([WHOLE, WHOLE, None, 0, 1, 2, 3, 4]), max_size=120))
def test_a_rollout_ends_the_same_however_often_it_is_killed(policy: str, kills: list[int | None]) -> None:
    """I5: good, then bad: one end, whatever was killed or lost on the way."""
    world = served(rules=POLICIES[policy], replicas=2)
    left = iter(kills)
    good(world, left)
    bad(world, left)
    assert world.routed == {V2.hash: 100}
    assert world.deployments == {V2.hash: 2}


def good(world: World, kills: Any) -> None:
    world.desired, world.verdict = V2, "Continue"
    for _ in range(900):
        passes(world, (next(kills, WHOLE),))
        if world.state.phase is Phase.PROGRESSING and world.state.step >= len(world.rules.steps) - 1:
            world.verdict = "Promote"
        if world.state.phase is Phase.STABLE and world.state.stable == V2:
            world.run(3)
            return
    raise AssertionError(world.state)


def bad(world: World, kills: Any) -> None:
    world.desired, world.verdict = V3, "Rollback"
    world.restarts = 9
    for _ in range(900):
        passes(world, (next(kills, WHOLE),))
        if world.state.phase is Phase.ROLLED_BACK:
            world.run(5)
            assert [r.hash for r in world.state.rejected] == [V3.hash]
            return
    raise AssertionError(world.state)


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=15, deadline=None)
@given(tale=TALE)
def test_looking_again_at_once_comes_to_rest(policy: str, tale: list[Happening]) -> None:
    rules = POLICIES[policy]
    world = served(rules=rules, replicas=2)
    for happening in tale:
        happens(world, happening, rules)
        passes(world, happening.passes)
    for _ in range(12):
        world.look()
    resting = world.state
    world.look()
    assert world.state == resting


@settings(max_examples=30, deadline=None)
@given(tale=TALE)
def test_from_anywhere_the_served_version_can_be_had_back(tale: list[Happening]) -> None:
    """No tale leads to a place from which a revert, with a working cluster, does not end at rest."""
    world = served(replicas=2)
    for happening in tale:
        happens(world, happening, RULES)
        passes(world, happening.passes)
    world.rules, world.hold, world.gateway_answers, world.candidate_comes_up = RULES, None, True, True
    world.stable_ready, world.room, world.restarts, world.robust, world.action = None, None, 0, 1.0, None
    world.desired, world.verdict = world.state.stable, "Continue"
    world.run(60)
    if world.state.stable != world.desired:
        world.desired = world.state.stable
        world.run(60)
    assert world.state.phase is Phase.STABLE, world.state
    assert world.routed == {world.state.stable.hash: 100}
    assert set(world.deployments) == {world.state.stable.hash}
