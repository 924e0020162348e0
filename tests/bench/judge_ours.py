"""Run the product's own judge and state machine on simulated traffic."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from modelops.analysis.frozen import Frozen, History, freeze
from modelops.analysis.judge import decide
from modelops.analysis.ledger import Ledger
from modelops.analysis.samples import NOT_SCRAPED, RoleWindow
from modelops.analysis.samples import Window as Closed
from modelops.analysis.settings import Settings
from modelops.api.policy import PolicySpec
from modelops.rollouts.capacity import candidate_pods
from modelops.rollouts.machine import advance
from modelops.rollouts.rules import rules
from modelops.rollouts.seen import Pods, Route, Seen
from modelops.rollouts.state import Phase, Revision, Rollout
from modelops.serving.judging import word
from tests.bench.judge_traffic import PODS, TPOT_BOUNDS, TTFT_BOUNDS, WINDOW_SECONDS, Role

BOUNDS = {"ttft": (*TTFT_BOUNDS, float("inf")), "tpot": (*TPOT_BOUNDS, float("inf"))}
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
"""When the warm-up is over and the canary gets its first request."""
STABLE, CANDIDATE = Revision("aaaaaaaa", "v1"), Revision("bbbbbbbb", "v2")
REST = 10
"""Moves after which a machine that is not at rest never will be."""
OPEN = (Phase.STARTING, Phase.PROGRESSING, Phase.PAUSED)
SETTINGS = Settings()
RULES = rules(PolicySpec().in_force())


@dataclass(slots=True)
class Ours:
    """One run."""

    ledger: Ledger
    state: Rollout

    @classmethod
    def of(cls, history: list[Role], run: int) -> "Ours":
        """Start a run from stable's windows before it, by pod and with cumulative buckets."""
        began = START - RULES.warmup
        ledger = Ledger(SETTINGS, frozen(history, run), began.timestamp())
        served = Rollout(stable=STABLE, promoted=(STABLE.hash,))
        started = _settle(_settle(served, began), began)
        return cls(ledger, _settle(started, START))

    @property
    def weight(self) -> int:
        """Return the percent of requests that the canary gets."""
        return self.state.weight

    def close(self, number: int, stable: RoleWindow | None, canary: RoleWindow | None) -> None:
        """Judge window *number*, from 0, and move on; no roles: Prometheus did not answer."""
        start = START + timedelta(seconds=number * WINDOW_SECONDS)
        end = start + timedelta(seconds=WINDOW_SECONDS)
        missing = None if stable and canary else NOT_SCRAPED
        window = Closed(
            start.timestamp(), end.timestamp(), stable, canary, missing=missing, weight=self.state.weight
        )
        self.ledger.add(window, SETTINGS, is_counted=True)
        step_at = self.state.step_at
        verdict = decide(
            self.ledger,
            at_last_step=RULES.is_last(self.state.step),
            dwell_served=step_at is not None and end - step_at >= RULES.stage(self.state.step).dwell,
        )
        self.state = _settle(self.state, end, replace(_seen(self.state), judgement=word(verdict)))

    @property
    def outcome(self) -> str | None:
        """Return ``promote`` or ``rollback`` once it is decided."""
        if self.state.phase in OPEN:
            return None
        return "promote" if self.state.phase is Phase.PROMOTING else "rollback"


def frozen(history: list[Role], run: int) -> Frozen:
    """Return what the product freezes from the history of one run."""
    names = [f"pod-{pod}" for pod in range(PODS)]
    pods = [{name: _window(row, run, pod) for pod, name in enumerate(names)} for row in history]
    return freeze(History.of(pods, BOUNDS))


def role_windows(role: Role, pods: list[int]) -> list[RoleWindow]:
    """Return a window of each run from counts that are summed over pods."""
    requests, errors = role.requests.tolist(), role.errors.tolist()
    ttft, tpot = np.cumsum(role.ttft, axis=-1).tolist(), np.cumsum(role.tpot, axis=-1).tolist()
    return [
        RoleWindow(count, requests[i], errors[i], {"ttft": tuple(ttft[i]), "tpot": tuple(tpot[i])})
        for i, count in enumerate(pods)
    ]


def cumulated(role: Role) -> Role:
    """Return the same with cumulative buckets, as Prometheus has them."""
    return replace(role, ttft=np.cumsum(role.ttft, axis=-1), tpot=np.cumsum(role.tpot, axis=-1))


def _window(role: Role, run: int, pod: int) -> RoleWindow:
    return RoleWindow(
        1,
        int(role.requests[run, pod]),
        int(role.errors[run, pod]),
        {"ttft": tuple(role.ttft[run, pod].tolist()), "tpot": tuple(role.tpot[run, pod].tolist())},
    )


def _seen(state: Rollout) -> Seen:
    """Return a cluster that does at once what the machine asks for."""
    wanted = candidate_pods(state, PODS) if state.capacity else 0
    return Seen(
        "bench",
        CANDIDATE,
        RULES,
        replicas=PODS,
        stable=Pods(PODS, PODS),
        candidate=Pods(wanted, wanted),
        route=Route(state.weight, STABLE.hash),
    )


def _settle(state: Rollout, now: datetime, seen: Seen | None = None) -> Rollout:
    """Advance until nothing moves, or the run is decided."""
    judged = seen.judgement if seen else None
    for _ in range(REST):
        moved = advance(state, replace(_seen(state), judgement=judged), now).state
        if moved == state or (moved.phase not in OPEN and moved.phase is not Phase.STABLE):
            return moved
        state = moved
    raise AssertionError(f"the machine does not come to rest: {state}")
