"""The whole status of one InferenceService, built in one place."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from modelops.analysis.verdict import Verdict
from modelops.plan import Claim, Manifest, Reason, conditions
from modelops.rollouts import state as rollout
from modelops.rollouts.rules import NO_POLICY, rules
from modelops.rollouts.state import Phase, Rejected, Revision, Rollout
from modelops.serving import consent, demand, eras, lastwords, learning, manifests, revisions, routes
from modelops.serving.counted import counted
from modelops.serving.fitted import Fitted
from modelops.serving.snapshot import LentRow, RouteRow, Snapshot

MOVING = frozenset(
    {
        Phase.STARTING,
        Phase.PROGRESSING,
        Phase.PROMOTING,
        Phase.BAKING,
        Phase.ROLLING_BACK,
        Phase.REVERTING,
        Phase.SUPERSEDING,
    }
)
"""Phases in which the operator itself is at work; in the others it waits for somebody."""
WAITING = "Waiting"
ROLES = ("stable", "candidate", "rejected")
"""Parts of the rollout's memory that stand at the top of the status."""


def read_rollout(status: Mapping[str, Any]) -> Rollout:
    """Return the rollout's memory from a stored status."""
    memory = dict(status.get("rollout") or {})
    return rollout.from_status(memory | {role: status[role] for role in ROLES if role in status})


def build(
    seen: Snapshot,
    state: Rollout,
    wanted: Revision | Reason,
    fitted: Fitted | None,
    kept: Mapping[str, manifests.Revision],
    verdict: Verdict | None,
    now: datetime,
    *,
    doubt: Reason | None = None,
    stored: Mapping[str, Manifest] = MappingProxyType({}),
) -> Manifest:
    """Return the whole status: server-side apply removes whatever is left out.

    *doubt* is what the gates say against the version that serves; *stored* are records that stay as they
    are, by hash.
    """
    generation = seen.service.metadata.generation
    memory = rollout.to_status(state)
    status: dict[str, Any] = {role: memory.pop(role) for role in ROLES if role in memory}
    memory["step"] |= _step(seen, state)
    memory["traffic"] |= _traffic(seen, state)
    memory |= _window(seen, state)
    model = consent.model_of(seen, state)
    if model:
        memory["approval"] = {"model": model}
    memory |= _evidence(seen, state, verdict)
    claims = _claims(seen, state, wanted, fitted, doubt, now)
    status |= {
        "observedGeneration": generation,
        "rollout": memory,
        "conditions": conditions(claims, seen.status.get("conditions", ()), generation, now),
        **_people(seen, state, wanted, kept),
        **_placement(seen, fitted, kept, stored),
    }
    failure = _last_failure(seen, kept)
    if failure:
        status["lastFailure"] = failure
    return status


def _step(seen: Snapshot, state: Rollout) -> dict[str, Any]:
    """Return what the policy says about the step; without a policy what it said last in this run."""
    if seen.policy is None:
        before = _before(seen, state).get("step", {})
        return {key: before[key] for key in ("of", "weight") if key in before}
    steps = rules(seen.policy).steps
    is_at_step = state.candidate is not None and 0 <= state.step < len(steps)
    return {"of": len(steps), **({"weight": steps[state.step].weight} if is_at_step else {})}


def _traffic(seen: Snapshot, state: Rollout) -> dict[str, Any]:
    """Return the shares beside the wanted one: whether it is accepted, counted, and as pods make it."""
    out: dict[str, Any] = {"routeAccepted": routes.is_accepted(seen, state)}
    if state.stable is not None:
        out["by"] = routes.senders(seen, state)
    effective = routes.effective_percent(seen, state)
    if effective is not None:
        out["effective"] = effective
    count = counted(seen, state)
    if count is not None:
        out["measured"] = count.percent
    return out


def _window(seen: Snapshot, state: Rollout) -> dict[str, Any]:
    """Return how long a window of the judge is: measuring asks here.  It is that of the run's start."""
    settings = eras.in_force(state)
    if settings is not None:
        return {"windowSeconds": int(settings.window.total_seconds())}
    if seen.policy is not None:
        return {"windowSeconds": int(seen.policy.window.total_seconds())}
    before = _before(seen, state)
    return {"windowSeconds": before["windowSeconds"]} if "windowSeconds" in before else {}


def _before(seen: Snapshot, state: Rollout) -> Mapping[str, Any]:
    """Return what the status tells about this run; nothing when it tells about another one."""
    before: Mapping[str, Any] = seen.status.get("rollout") or {}
    return before if state.run_id and before.get("runId") == state.run_id else {}


def _evidence(seen: Snapshot, state: Rollout, verdict: Verdict | None) -> dict[str, Any]:
    """Return what the judge said last in this run; it stays when a pass brings no word of the judge."""
    if verdict is not None:
        return {"analysis": verdict.to_status(), "carry": dict(verdict.carry)}
    before = _before(seen, state)
    kept = ("analysis", "carry") if state.candidate is not None else ("analysis",)
    return {key: before[key] for key in kept if key in before}


# --- columns -----------------------------------------------------------------------------------------


def _people(
    seen: Snapshot,
    state: Rollout,
    wanted: Revision | Reason,
    kept: Mapping[str, manifests.Revision],
) -> dict[str, Any]:
    """Return what the columns of kubectl show."""
    live = [pod for pod in seen.pods if not pod.is_terminating and not pod.is_worker]
    ready = sum(pod.is_ready for pod in live)
    out: dict[str, Any] = {
        "pods": f"{_ready(seen, state)}/{demand.replicas(seen.service.spec)}",
        "replicas": len(live),
        "readyReplicas": ready,
    }
    if isinstance(wanted, Revision):
        out["model"] = wanted.version
    shown = kept.get(state.stable.hash) if state.stable else None
    if shown is None and state.candidate is not None:
        shown = kept.get(state.candidate.hash)
    if shown is not None:
        out["engine"] = shown.engine
        if shown.placement.gpus:
            group = f"{shown.placement.nodes} nodes of " if shown.placement.nodes > 1 else ""
            out["accelerator"] = f"{group}{shown.placement.gpus} x {shown.placement.product}"
    url = _url(seen) if state.stable is not None else ""
    return {**out, "url": url} if url else out


def _url(seen: Snapshot) -> str:
    """Return where clients ask; empty: only who made the route knows, or there is none."""
    if routes.way(seen) is demand.Way.YOURS:
        row = routes.yours(seen)
        return f"http://{row.hostnames[0]}" if row and row.hostnames else ""
    gateway = demand.gateway(seen)
    hosts = demand.hostnames(seen, gateway) if gateway else ()
    traffic = seen.service.spec.traffic
    path = traffic.path if traffic and traffic.path and traffic.path != "/" else ""
    return f"http://{hosts[0]}{path}" if hosts else ""


def _ready(seen: Snapshot, state: Rollout) -> int:
    """Return stable's ready pods, or the first candidate's while nothing is stable."""
    role = state.stable or state.candidate
    live = [pod for pod in seen.pods if not pod.is_terminating and role and pod.revision == role.hash]
    return sum(pod.is_ready for pod in live)


def _placement(
    seen: Snapshot,
    fitted: Fitted | None,
    kept: Mapping[str, manifests.Revision],
    stored: Mapping[str, Manifest],
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if fitted is not None and fitted.placement is not None:
        out["plan"] = fitted.placement.to_status()
    if kept:
        out["revisions"] = [stored.get(h) or revisions.to_status(record) for h, record in kept.items()]
    measured = learning.measured(seen, kept)
    if measured:
        out["measured"] = [one.to_status() for one in measured]
    return {"placement": out} if out else {}


def _last_failure(seen: Snapshot, kept: Mapping[str, manifests.Revision]) -> dict[str, Any]:
    """Return how a container ended last, if one did badly."""
    ended = [pod for pod in seen.pods if pod.last_exit is not None and not pod.is_terminating]
    if not ended or ended[-1].last_exit is None:
        return dict(seen.status.get("lastFailure") or {})
    record = kept.get(ended[-1].revision)
    return lastwords.told(ended[-1].last_exit, record.engine if record else "")


# --- conditions --------------------------------------------------------------------------------------


def _claims(
    seen: Snapshot,
    state: Rollout,
    wanted: Revision | Reason,
    fitted: Fitted | None,
    doubt: Reason | None,
    now: datetime,
) -> tuple[Claim, ...]:
    admitted = _admitted(seen, state, wanted, fitted, doubt)
    placed = _placed(seen, wanted, fitted)
    routed = _routed(seen, state)
    healthy = _healthy(seen, state, wanted)
    stalled = _stalled(seen, state, wanted, fitted, now)
    ready = _serving(seen, state, (admitted, placed, routed))
    reconciling = _reconciling(seen, state, wanted, stalled, ready)
    return (ready, reconciling, stalled, admitted, placed, routed, healthy)


def _serving(seen: Snapshot, state: Rollout, parts: tuple[Claim, ...]) -> Claim:
    """Say whether requests are answered; a rejected or waiting candidate does not change that."""
    if state.stable is None:
        worst = next((part for part in parts if part.holds is False), None)
        if worst is not None:
            return Claim("Ready", False, worst.reason, worst.message)
        return Claim("Ready", False, "Starting", f"{seen.name}: {_doing(seen, state)}")
    ready = _ready(seen, state)
    if ready == 0:
        message = (
            f"{seen.name}: needs a ready pod of {state.stable.version}, found 0 of "
            f"{demand.replicas(seen.service.spec)}; see status.lastFailure and the pods' events"
        )
        return Claim("Ready", False, "NoReadyPods", message)
    routed = parts[-1]
    if routed.holds is False or (routed.reason == WAITING and not _was_ready(seen)):
        return Claim("Ready", False, routed.reason, routed.message)
    return Claim("Ready", True, "Serving", f"{seen.name}: {state.stable.version} serves")


def _was_ready(seen: Snapshot) -> bool:
    """Return whether requests were answered before: a route that is only changed still carries them."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in seen.status.get("conditions", ()))


def _doing(seen: Snapshot, state: Rollout) -> str:
    pending = next((pod.pending for pod in seen.pods if pod.pending), "")
    if state.candidate is None:
        return "nothing is placed yet"
    return f"{state.candidate.version} starts" + (f" ({pending})" if pending else "")


def _admitted(
    seen: Snapshot,
    state: Rollout,
    wanted: Revision | Reason,
    fitted: Fitted | None,
    doubt: Reason | None,
) -> Claim:
    """Say whether what serves and what is wanted may run; what serves keeps running all the same."""
    if doubt is not None and state.stable is not None:
        text = f"{doubt.message}; {state.stable.version} serves and keeps running"
        return Claim("ModelAdmitted", False, doubt.code, text)
    if isinstance(wanted, Reason):
        return Claim("ModelAdmitted", False, wanted.code, wanted.message)
    gate = fitted.gate if fitted else None
    if gate is not None:
        return Claim("ModelAdmitted", False, gate.code, gate.message)
    message = f"{seen.name}: {wanted.version} may run in {seen.environment}"
    return Claim("ModelAdmitted", True, "Admitted", message)


def _placed(seen: Snapshot, wanted: Revision | Reason, fitted: Fitted | None) -> Claim:
    if isinstance(wanted, Reason) or fitted is None:
        return Claim(
            "Placed", None, "NotResolved", f"{seen.name}: its version is not pinned to its bytes yet"
        )
    if fitted.misfit is not None:
        return Claim("Placed", False, fitted.misfit.code, fitted.misfit.message)
    if fitted.record is None:
        message = f"{seen.name}: its record was lost with the status; its pods stay as they are"
        return Claim("Placed", None, "StatusLost", message)
    return Claim("Placed", True, "Fits", fitted.record.placement.message)


def _routed(seen: Snapshot, state: Rollout) -> Claim:
    by, gateway = routes.way(seen), demand.gateway(seen)
    if by is demand.Way.PODS:
        message = f"{seen.name}: no gateway splits; requests reach it by the Service of its name"
        return Claim("RouteAccepted", None, "NoGateway", message)
    if state.stable is None:
        return Claim(
            "RouteAccepted", None, "NothingServes", f"{seen.name}: a route comes with the first ready pod"
        )
    wrong = routes.fault(seen)
    if wrong is not None:
        return Claim("RouteAccepted", False, wrong.code, wrong.message)
    row: RouteRow | LentRow | None = routes.yours(seen) if by is demand.Way.YOURS else seen.route
    what = f"{demand.your_route(seen)}" if by is demand.Way.YOURS else "the route"
    who = f"Gateway {gateway.name}" if gateway and by is demand.Way.OWN else "its gateway"
    if routes.is_accepted(seen, state):
        message = f"{seen.name}: {who} accepted {what}{_without_grpc(seen)}"
        return Claim("RouteAccepted", True, "Accepted", message)
    if row is not None and row.fault:
        message = f"{seen.name}: {who} does not take {what}: {row.fault}"
        return Claim("RouteAccepted", False, "RouteNotAccepted", message)
    message = f"{seen.name}: {who} has not answered for {what} yet"
    return Claim("RouteAccepted", None, WAITING, message)


def _without_grpc(seen: Snapshot) -> str:
    """Return that requests over gRPC have no way, where the gateway refuses their route."""
    row = seen.grpc_route
    return f"; it refuses the one for gRPC: {row.fault}" if row is not None and row.is_refused else ""


def _healthy(seen: Snapshot, state: Rollout, wanted: Revision | Reason) -> Claim:
    message = state.message or f"{seen.name}: no rollout yet"
    known = _rejection(state, wanted)
    if state.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK):
        return Claim("RolloutHealthy", False, "RolledBack", message)
    if known is not None:
        return Claim("RolloutHealthy", False, "RolledBack", known.reason)
    if seen.policy_fault is not None:
        return Claim("RolloutHealthy", None, seen.policy_fault.code, seen.policy_fault.message)
    if state.phase in (Phase.PAUSED, Phase.AWAITING_APPROVAL):
        return Claim("RolloutHealthy", None, _word(state.reason), message)
    if state.reason == "RegressionHeld":
        return Claim("RolloutHealthy", False, state.reason, message)
    if seen.policy is not None and seen.policy.is_suspended and state.phase in MOVING:
        text = f"{seen.name}: its rollout policy is suspended; weight stays at {state.weight} %"
        return Claim("RolloutHealthy", None, "Suspended", text)
    count = counted(seen, state)
    if count is not None and count.wrong is not None:
        return Claim("RolloutHealthy", None, count.wrong.code, count.wrong.message)
    away = seen.measured.away_since
    if away is not None and state.phase in (Phase.PROGRESSING, Phase.PROMOTING):
        text = (
            f"{seen.name}: needs metrics to judge, Prometheus does not answer since {away:%H:%M:%SZ}; "
            f"weight stays at {state.weight} % until it does"
        )
        return Claim("RolloutHealthy", None, "MetricsUnavailable", text)
    return Claim("RolloutHealthy", True, _word(state.reason) or "Stable", message)


def _word(text: str) -> str:
    """Return a set of reasons as one reason code."""
    return "".join(char for char in text if char.isalnum()) or "Stable"


def _rejection(state: Rollout, wanted: Revision | Reason) -> Rejected | None:
    """Return how the wanted revision was rolled back before; None: it was not."""
    return rollout.rejects(state, wanted.hash) if isinstance(wanted, Revision) else None


def _stalled(
    seen: Snapshot, state: Rollout, wanted: Revision | Reason, fitted: Fitted | None, now: datetime
) -> Claim:
    if seen.refused is not None:
        return Claim("Stalled", True, seen.refused.code, seen.refused.message)
    if state.phase is Phase.ROLLED_BACK:
        return Claim("Stalled", True, "RolledBack", state.message)
    known = _rejection(state, wanted)
    if known is not None and state.phase is not Phase.ROLLING_BACK:
        return Claim("Stalled", True, "RolledBack", known.reason)
    late = _late(seen, state, now)
    if late is not None:
        return Claim("Stalled", True, late.code, late.message)
    misfit = fitted.misfit if fitted else None
    if misfit is not None and misfit.code != "WaitingForCapacity":
        return Claim("Stalled", True, misfit.code, misfit.message)
    return Claim("Stalled", False, "Progressing", f"{seen.name}: nothing is stuck")


def _late(seen: Snapshot, state: Rollout, now: datetime) -> Reason | None:
    """Return that a first version missed its deadline: there is nothing to go back to, so it goes on."""
    if state.stable is not None or state.candidate is None or state.unready_at is None:
        return None
    deadline = seen.policy.progress_deadline if seen.policy else NO_POLICY.progress_deadline
    if now - state.unready_at < deadline:
        return None
    return Reason(
        "DeadlineExceeded",
        f"{seen.name}: {state.candidate.version} needs a ready pod within {deadline.total_seconds():.0f} s, "
        "found none; see status.lastFailure and the pods' events",
    )


def _reconciling(
    seen: Snapshot, state: Rollout, wanted: Revision | Reason, stalled: Claim, ready: Claim
) -> Claim:
    if stalled.holds:
        return Claim("Reconciling", False, stalled.reason, stalled.message)
    if state.phase in MOVING:
        return Claim("Reconciling", True, str(state.phase), state.message)
    if state.stable is None and isinstance(wanted, Reason):
        return Claim("Reconciling", True, wanted.code, wanted.message)
    if ready.reason == WAITING:
        return Claim("Reconciling", True, ready.reason, ready.message)
    return Claim("Reconciling", False, str(state.phase), state.message or f"{seen.name}: nothing to do")
