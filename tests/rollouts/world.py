"""A small cluster for the pure machine: pods, a gateway that may be slow, and a judge that is told.

A pass of the operator has effects in the order of the real one: the status, then the pods of each role, then
the route, then deletions.  It can be killed between any two of them, and a pass can be lost.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from modelops.analysis.verdict import Verdict
from modelops.plan import Event, Reason
from modelops.rollouts.capacity import candidate_pods, previous_pods, stable_pods
from modelops.rollouts.machine import advance
from modelops.rollouts.rules import Rules, Stage
from modelops.rollouts.seen import Judgement, Pods, Route, Seen
from modelops.rollouts.state import Acted, Phase, Revision, Rollout, from_status, to_status
from modelops.rollouts.traffic import Shares, shares
from modelops.serving.judging import word

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MODEL = "chat"
V1, V2, V3 = (Revision(f"{n}" * 8, f"chat-{n}", f"sha256:{n}") for n in "123")


def steps(*weights: int, **more) -> tuple[Stage, ...]:
    return tuple(Stage(weight, dwell=timedelta(seconds=30), **more) for weight in weights)


RULES = Rules(
    steps=steps(20, 50),
    min_dwell=timedelta(seconds=30),
    warmup=timedelta(seconds=10),
    min_ready=timedelta(seconds=2),
    bake=timedelta(seconds=10),
    abort_scale_down_delay=timedelta(seconds=10),
)


@dataclass
class World:
    """A cluster that does at once what the machine asks, unless a test says otherwise."""

    now: datetime = NOW
    status: dict = field(default_factory=lambda: to_status(Rollout()))
    desired: Revision | None = V1
    rules: Rules | None = RULES
    hold: Reason | None = None
    waits: bool = False
    replicas: int = 1
    candidate_comes_up: bool = True
    gateway_answers: bool = True
    stable_ready: int | None = None
    """At most so many pods of the first version are ready."""
    room: int | None = None
    """Pods that the nodes have room for; None: for all."""
    pace: int | None = None
    """New pods of a revision that get ready in one second; None: all."""
    restarts: int = 0
    verdict: str = "Continue"
    reason: str = "Undecided"
    robust: float = 1.0
    requests: int = 1000
    beyond: str | None = None
    is_stable_healthy: bool = True
    said: Verdict | None = None
    """What the real judge said; None: *verdict*, *reason* and *robust* stand for it."""
    has_metrics: bool = True
    away_since: datetime | None = None
    action: Acted | None = None
    distrust: Reason | None = None
    deployments: dict[str, int] = field(default_factory=dict)
    pods: dict[str, int] = field(default_factory=dict)
    written: Shares | None = None
    route: Shares | None = None
    told: list[Event] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)
    checks: list[Callable[["World"], None]] = field(default_factory=list)
    read: tuple[dict | None, Rollout] = (None, Rollout())

    # --- what there is --------------------------------------------------------------------------------

    @property
    def state(self) -> Rollout:
        """Return what the status holds, read once for each that is written."""
        if self.read[0] is not self.status:
            self.read = (self.status, from_status(self.status))
        return self.read[1]

    @property
    def events(self) -> list[str]:
        return [event.reason for event in self.told]

    @property
    def routed(self) -> dict[str, int]:
        return dict(self.route.weights) if self.route else {}

    def share(self, revision: Revision) -> int:
        return self.routed.get(revision.hash, 0)

    def ready(self, revision: Revision | None) -> int:
        """Return the ready pods of a revision."""
        if revision is None:
            return 0
        state, there = self.state, self.pods.get(revision.hash, 0)
        if revision == V1 and self.stable_ready is not None:
            return min(there, self.stable_ready)
        is_candidate = state.candidate is not None and revision.hash == state.candidate.hash
        return 0 if is_candidate and not self.candidate_comes_up else there

    def seen(self) -> Seen:
        state = self.state
        candidate = state.candidate
        return Seen(
            service="chat",
            desired=self.desired,
            rules=self.rules,
            replicas=self.replicas,
            stable=self._pods(state.stable, stable_pods(state, self.replicas)),
            candidate=self._pods(candidate, candidate_pods(state, self.replicas)),
            previous=self._pods(state.previous, previous_pods(state, self.replicas)),
            route=self._route(state),
            hold=self.hold,
            desired_hold=None if self.waits else self.hold,
            waits_for_capacity=self.waits,
            judgement=self._judgement(state),
            metrics_away_since=self.away_since,
            action=self.action,
            approval_of=MODEL if self._asks_approval() else "",
            distrust=self.distrust,
        )

    def _asks_approval(self) -> bool:
        rules = self.rules
        if rules is None:
            return False
        at_a_step = any(stage.needs_approval for stage in rules.steps)
        return rules.approves_start or rules.approves_promotion or at_a_step

    def _pods(self, revision: Revision | None, wanted: int) -> Pods:
        if revision is None:
            return Pods(0, wanted)
        there = self.pods.get(revision.hash, 0)
        lacking = self.deployments.get(revision.hash, 0) - there
        candidate = self.state.candidate
        restarts = self.restarts if candidate is None or revision == candidate else 0
        without_room = lacking if self.room is not None else 0
        return Pods(self.ready(revision), wanted, restarts, max(0, without_room), there)

    def _route(self, state: Rollout) -> Route:
        if self.route is None:
            return Route(0 if self.written is None else None)
        if self.route != self.written:
            return Route(None)
        candidate = state.candidate.hash if state.candidate else "-"
        by_hash = self.routed
        mirror = self.route.mirror
        return Route(
            by_hash.get(candidate, 0),
            max(by_hash, key=lambda h: by_hash[h], default=""),
            mirror=mirror[1] if mirror and mirror[0] == candidate else 0,
            is_matched=self.route.matched == candidate,
        )

    def _judgement(self, state: Rollout) -> Judgement | None:
        is_judged = state.is_at_step or state.phase in (Phase.PROMOTING, Phase.BAKING)
        if not self.has_metrics or not is_judged:
            return None
        if self.said is not None:
            return word(self.said)
        window = int((self.now - NOW).total_seconds()) // 30 * 30
        end = NOW + timedelta(seconds=window)
        return Judgement(
            self.verdict,
            self.reason,
            "errors 0% vs 0%",
            self.robust,
            end,
            has_canary_traffic=True,
            requests=self.requests,
            beyond=self.beyond,
            is_stable_healthy=self.is_stable_healthy,
        )

    # --- what happens ---------------------------------------------------------------------------------

    def look(self, *, effects: int | None = None) -> None:
        """Give one pass; with *effects* it is killed after so many of them.  Then the cluster follows."""
        step = advance(self.state, self.seen(), self.now)
        for number, effect in enumerate(self._effects(step.state, step.events)):
            if effects is not None and number >= effects:
                break
            effect()
            self._check()
        self.follow()

    def _effects(self, state: Rollout, events: tuple[Event, ...]) -> Iterator[Callable[[], None]]:
        status, wanted = to_status(state), self._wanted(state)
        goal = shares(state, candidate_ready=self.ready(state.candidate))
        yield lambda: setattr(self, "status", status)
        for revision, count in wanted.items():
            yield lambda revision=revision, count=count: self.deployments.update({revision: count})
        if goal.weights:
            yield lambda: setattr(self, "written", goal)
        for revision in self._leftovers(state, wanted):
            yield lambda revision=revision: self.deployments.pop(revision)
        yield lambda: self.told.extend(events)

    def _wanted(self, state: Rollout) -> dict[str, int]:
        """Return the pods of each role, as the plan of a service does."""
        out = {}
        if state.stable:
            out[state.stable.hash] = stable_pods(state, self.replicas)
        if state.candidate and not state.is_before_start:
            out[state.candidate.hash] = candidate_pods(state, self.replicas)
        if state.previous:
            out[state.previous.hash] = previous_pods(state, self.replicas)
        return out

    def _leftovers(self, state: Rollout, wanted: dict[str, int]) -> list[str]:
        """Return what nobody needs and no accepted route names; nothing while the gateway owes an answer."""
        if self.route != self.written:
            return []
        return [h for h in self.deployments if h not in wanted and h not in _named(self.route)]

    def follow(self) -> None:
        """Let the gateway and then kubelets do what was written."""
        if self.gateway_answers:
            self.route = self.written
        self._check()
        for revision in [h for h in self.pods if h not in self.deployments]:
            del self.pods[revision]
        for revision, count in self.deployments.items():
            self.pods[revision] = self._grown(revision, count)
        share = self.share(self.state.candidate) if self.state.candidate else 0
        if not self.weights or self.weights[-1] != share:
            self.weights.append(share)
        self._check()

    def _grown(self, revision: str, count: int) -> int:
        """Return how many of *count* pods are there a second later."""
        there = self.pods.get(revision, 0)
        if count <= there:
            return count
        others = sum(self.pods.values()) - there
        fits = count if self.room is None else max(there, min(count, self.room - others))
        return fits if self.pace is None else min(fits, there + self.pace)

    def _check(self) -> None:
        for check in self.checks:
            check(self)

    def run(self, seconds: int) -> "World":
        for _ in range(seconds):
            self.now += SECOND
            self.look()
        return self

    def until(self, phase: Phase, seconds: int = 600) -> "World":
        for _ in range(seconds):
            if self.state.phase is phase:
                return self
            self.now += SECOND
            self.look()
        raise AssertionError(f"never {phase}; {self.state}")

    def act(
        self, action: str, *, wait: int | None = None, by: str = "alice", approves: str | None = None
    ) -> "World":
        """Ask for *action*; a Promote is an approval unless *approves* names another model, or none."""
        model = (MODEL if action == "Promote" else "") if approves is None else approves
        self.action = Acted(action, self.state.run_id, wait, by, model)
        return self

    def change(self, **rules) -> "World":
        """Edit the policy."""
        assert self.rules is not None
        self.rules = replace(self.rules, **rules)
        return self


def _named(route: Shares | None) -> set[str]:
    if route is None:
        return set()
    return {h for h, _ in route.weights} | ({route.mirror[0]} if route.mirror else set()) | {route.matched}


def served(**more) -> World:
    """Return a service whose first version serves."""
    return World(**more).until(Phase.STARTING).until(Phase.STABLE).run(2)


def pushed(**more) -> World:
    """Return a service with a second version at its first step, accepted."""
    world = served(**more)
    world.desired = V2
    return world.until(Phase.PROGRESSING).run(2)


def at(weight: int, **more) -> World:
    """Return a service whose second version has an accepted *weight*."""
    world = pushed(**more)
    for _ in range(600):
        if world.share(V2) == weight and world.state.step_at:
            return world
        world.run(1)
    raise AssertionError(f"never at {weight}: {world.state}")


def promoted(world: World) -> World:
    """Let the judge certify the candidate, and wait until it is stable."""
    world.verdict, world.reason = "Promote", "CertificateComplete"
    world.until(Phase.BAKING).until(Phase.STABLE)
    world.verdict, world.reason = "Continue", "Undecided"
    return world
