"""Decide everything about one InferenceService.  Top to bottom: want, fit, gate, judge, advance, build."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from modelops.api.service import RolloutAction
from modelops.engines import by_name, pick, picked_because
from modelops.engines.base import Engine, Launch
from modelops.governance.gates import ADMISSION, Evidence, first_hold
from modelops.placement.fit import Refusal, choose
from modelops.plan import Manifest, Plan, Reason, Ref
from modelops.rollouts.capacity import candidate_pods, previous_pods, stable_pods
from modelops.rollouts.machine import advance
from modelops.rollouts.rules import NO_POLICY, Rules, rules
from modelops.rollouts.seen import Judgement, Pods, Seen
from modelops.rollouts.state import Acted, Revision, Rollout, rejects
from modelops.serving import (
    consent,
    demand,
    eras,
    features,
    groups,
    history,
    judging,
    manifests,
    monitors,
    revisions,
    routes,
    status,
)
from modelops.serving.counted import counted
from modelops.serving.fitted import Fitted
from modelops.serving.snapshot import Snapshot, VersionRow

UNSCHEDULABLE = "Unschedulable"
"""How a pod says that no node has room for it."""


def plan(seen: Snapshot, now: datetime) -> Plan:
    """Return what should be true of the service at *now*.

    A refusal holds the candidate only: what runs keeps its pods and its traffic.
    Law: planning again from what this plan brings about, at the same *now*, changes nothing.
    """
    owner = manifests.Owner(seen.namespace, seen.name, seen.service.uid)
    placed = seen.status.get("placement") or {}
    records = revisions.read_all(placed.get("revisions", ()), owner)
    before = state = _memory(seen)
    wanted = _wanted(seen)
    fitted = None if isinstance(wanted, Reason) else _fit(seen, state, wanted, records, owner, now)
    stored = {record["hash"]: record for record in placed.get("revisions", ())}
    if (
        fitted is not None
        and fitted.record is not None
        and fitted.record is not records.get(fitted.record.hash)
    ):
        records = {**records, fitted.record.hash: fitted.record}
        stored.pop(fitted.record.hash, None)

    seen = judging.of_this_run(seen, state)
    state = eras.noted(state, seen, now)
    frozen = judging.frozen_of(state, seen.measured)
    verdict = judging.ask(
        state,
        seen,
        frozen,
        now,
        in_force=eras.in_force(state),
        earlier=eras.earlier(state),
        paused=eras.paused(state, now),
    )
    step = advance(state, _situation(seen, state, fitted, judging.word(verdict), now), now)
    if judging.is_judged(step.state) and not step.state.frozen and frozen is not None:
        step = replace(step, state=replace(step.state, frozen=frozen.to_status()))
    kept = _kept(records, step.state, fitted)
    doubt = _doubt(seen, step.state, now)
    return Plan(
        status=status.build(seen, step.state, wanted, fitted, kept, verdict, now, doubt=doubt, stored=stored)
        | history.noted(seen, before, step.state, step.events, verdict, now),
        apply=_children(seen, step.state, kept),
        patch=routes.patches(seen, step.state),
        delete=_leftovers(seen, step.state, kept),
        events=step.events,
        after=_soonest(step.after, _until_approvals_end(seen, now)),
    )


def _until_approvals_end(seen: Snapshot, now: datetime) -> timedelta | None:
    """Return when the next approval ends of a version that is wanted or has a role; None: none does."""
    wanted = (seen.wanted,) if isinstance(seen.wanted, VersionRow) else ()
    approvals = (approval for row in (*wanted, *seen.versions.values()) for approval in row.approvals)
    ends = [a.expires_at - now for a in approvals if a.expires_at is not None and a.expires_at > now]
    return min(ends, default=None)


def _soonest(*waits: timedelta | None) -> timedelta | None:
    return min((wait for wait in waits if wait is not None), default=None)


def _memory(seen: Snapshot) -> Rollout:
    """Return what is remembered; a status that was lost is taken from the roles of the Deployments.

    Else what serves would be taken for a first version that starts.
    """
    state = status.read_rollout(seen.status)
    serves = next((child for child in seen.children if child.role == "stable"), None)
    if seen.status.get("rollout") or serves is None:
        return state
    message = f"{seen.name}: {serves.version} serves; the rest of its status was lost"
    stable = Revision(serves.revision, serves.version)
    return replace(state, stable=stable, promoted=(stable.hash,), reason="StatusLost", message=message)


# --- want, fit, gate ---------------------------------------------------------------------------------


def _wanted(seen: Snapshot) -> Revision | Reason:
    """Return the revision that the spec asks for, or why it asks for none."""
    version = seen.wanted
    if isinstance(version, Reason):
        return version
    if not version.digest:
        return version.unresolved or Reason(
            "NotResolved", f"{seen.name}: needs {version.version.name} pinned to its bytes; wait for it"
        )
    digest = version.digest
    hash8 = revisions.revision_hash(seen.service.spec, version.version.name, digest)
    return Revision(hash8, version.version.name, digest)


def _fit(
    seen: Snapshot,
    state: Rollout,
    wanted: Revision,
    records: Mapping[str, manifests.Revision],
    owner: manifests.Owner,
    now: datetime,
) -> Fitted:
    """Return the wanted revision placed and gated.  What has pods keeps its record."""
    version = seen.wanted
    assert isinstance(version, VersionRow)
    gate = first_hold(ADMISSION, _evidence(seen, version), now)
    known = records.get(wanted.hash)
    if _is_made(seen, state, wanted.hash):
        return Fitted(wanted, known, gate, placement=known.placement if known else None)
    engine = _nodes_unseen(seen) or _engine(seen, version)
    if isinstance(engine, Reason):
        return Fitted(wanted, None, gate, engine)
    ask = demand.demand(seen, version, engine)
    if isinstance(ask, Reason):
        return Fitted(wanted, None, gate, ask)
    stable = records.get(state.stable.hash) if state.stable else None
    place = choose(demand.room(seen, stable), ask)
    if isinstance(place, Refusal):
        return Fitted(wanted, None, gate, place.reason, place)
    place = replace(place, engine=_why(seen, version, engine))
    if known is not None and known.placement.node == place.node:
        place = known.placement
    record = demand.record(seen, version, engine, place, wanted, owner)
    return Fitted(wanted, record, gate, placement=place)


def _nodes_unseen(seen: Snapshot) -> Reason | None:
    """Refuse to place anything where the operator may not see the nodes."""
    if not seen.nodes_unseen:
        return None
    return Reason(
        "NodesUnseen",
        f"{seen.name}: needs to see nodes and ModelNodes to choose a place, found {seen.nodes_unseen}; give "
        "the operator that right: the chart's rbac.clusterReader",
    )


def _engine(seen: Snapshot, version: VersionRow) -> Engine | Reason:
    spec = seen.service.spec.engine
    name = spec.name if spec and spec.name else "Auto"
    if name != "Auto":
        return by_name(name)
    return pick(version.resolved.get("format", ""), version.model_type)


def _why(seen: Snapshot, version: VersionRow, engine: Engine) -> str:
    """Return what Auto chose and why; empty: the service names its engine."""
    spec = seen.service.spec.engine
    if spec and spec.name and spec.name != "Auto":
        return ""
    return picked_because(engine, version.resolved.get("format", ""), version.model_type)


def _evidence(seen: Snapshot, version: VersionRow) -> Evidence:
    return Evidence(
        service=seen.name,
        model=version.version.spec.model_ref,
        version=version.version.name,
        environment=seen.environment,
        lifecycle=str(version.version.spec.lifecycle or "Active"),
        unresolved=version.unresolved,
        unverified=version.unverified,
        format=version.resolved.get("format", ""),
        artifact_digest=version.digest,
        spec_hash=version.spec_hash,
        authors=version.authors,
        requirement=version.requirement,
        approvals=version.approvals,
    )


def _is_made(seen: Snapshot, state: Rollout, revision: str) -> bool:
    """Return whether the revision serves or has objects, so that nothing of it may change any more."""
    serves = any(r is not None and r.hash == revision for r in (state.stable, state.previous))
    has_pods = any(pod.revision == revision for pod in seen.pods)
    return serves or has_pods or any(child.revision == revision for child in seen.children)


def _gate(seen: Snapshot, version: str, now: datetime) -> Reason | None:
    """Return what the gates say against a version in a role; None: nothing, or it is not there any more."""
    row = seen.versions.get(version)
    return None if row is None else first_hold(ADMISSION, _evidence(seen, row), now)


def _doubt(seen: Snapshot, state: Rollout, now: datetime) -> Reason | None:
    """Return what the gates say against what serves: it keeps running, and its conditions say so."""
    return None if state.stable is None else _gate(seen, state.stable.version, now)


# --- advance -----------------------------------------------------------------------------------------


def _situation(
    seen: Snapshot, state: Rollout, fitted: Fitted | None, judgement: Judgement | None, now: datetime
) -> Seen:
    replicas = demand.replicas(seen.service.spec)
    candidate, action, count = state.candidate, seen.service.spec.rollout, counted(seen, state)
    waits = fitted is not None and fitted.waits_for_capacity
    # A first version takes no share of another.
    lacking = features.unsupported(seen) if state.stable else None
    if candidate is None or (fitted is not None and fitted.revision.hash == candidate.hash):
        hold, candidate_waits = fitted.hold if fitted else None, waits
    else:
        hold, candidate_waits = _gate(seen, candidate.version, now), False
    return Seen(
        service=seen.name,
        desired=fitted.revision if fitted else None,
        rules=_rules(seen, state),
        replicas=replicas,
        stable=_pods(seen, state.stable, stable_pods(state, replicas)),
        candidate=_pods(seen, candidate, candidate_pods(state, replicas)),
        previous=_pods(seen, state.previous, previous_pods(state, replicas)),
        route=routes.accepted(seen, state),
        hold=lacking or hold,
        waits_for_capacity=candidate_waits and lacking is None,
        desired_hold=lacking or (fitted.hold if fitted and not waits else None),
        misrouted=count.wrong if count else None,
        is_doubted=count is not None and count.is_doubted,
        judgement=judgement,
        metrics_away_since=seen.measured.away_since,
        action=_asked(action) if action else None,
        approval_of=consent.model_of(seen, state),
        distrust=consent.distrust(seen),
    )


def _asked(action: RolloutAction) -> Acted:
    return Acted(str(action.action), action.run_id, action.wait, action.by or "", action.approves or "")


def _rules(seen: Snapshot, state: Rollout) -> Rules | None:
    """Return the policy in force; None: it is missing, also when the default one goes in mid-run."""
    if seen.policy_fault is not None or (seen.policy is None and state.is_at_step):
        return None
    if seen.policy is None:
        return NO_POLICY
    return rules(seen.policy, by_pods=demand.by_pods(seen))


def _pods(seen: Snapshot, revision: Revision | None, wanted: int) -> Pods:
    """Return how the pods of *revision* do; of those that are ending only that they are there."""
    ours = [pod for pod in seen.pods if revision is not None and pod.revision == revision.hash]
    staying = [pod for pod in ours if not pod.is_terminating]
    return Pods(
        ready=sum(pod.is_ready for pod in staying),
        wanted=wanted,
        restarts=sum(pod.restarts for pod in staying),
        without_room=sum(pod.pending.startswith(UNSCHEDULABLE) for pod in staying),
        live=len(ours),
    )


# --- build -------------------------------------------------------------------------------------------


def _kept(
    records: Mapping[str, manifests.Revision], state: Rollout, fitted: Fitted | None
) -> dict[str, manifests.Revision]:
    """Return the records that are still somebody's, and that of the wanted revision."""
    roles = {r.hash for r in (state.stable, state.candidate, state.previous) if r is not None}
    if fitted is not None and not rejects(state, fitted.revision.hash):
        roles.add(fitted.revision.hash)
    return {h: record for h, record in sorted(records.items()) if h in roles}


def _children(seen: Snapshot, state: Rollout, kept: Mapping[str, manifests.Revision]) -> tuple[Manifest, ...]:
    """Return what should exist: the pods of each role, and the route that sends traffic to them."""
    replicas = demand.replicas(seen.service.spec)
    roles: list[tuple[Revision, str, int]] = []
    if state.stable is not None:
        roles.append((state.stable, "stable", stable_pods(state, replicas)))
    if state.candidate is not None and not state.is_before_start:
        roles.append((state.candidate, "canary", candidate_pods(state, replicas)))
    if state.previous is not None:
        roles.append((state.previous, "previous", previous_pods(state, replicas)))
    out: list[Manifest] = []
    for revision, role, count in roles:
        record = kept.get(revision.hash)
        if record is None:
            continue
        out += [
            manifests.volume(record.owner, record.digest, record.store),
            manifests.claim(record.owner, record.digest),
            groups.workload(record, replicas=count, role=role),
            manifests.service(record),
            manifests.disruption_budget(record),
        ]
    own = manifests.Owner(seen.namespace, seen.name, seen.service.uid)
    if out:
        launches = [kept[revision.hash].launch for revision, _, _ in roles if revision.hash in kept]
        out.append(manifests.network_policy(own, launches))
    # Last: where it cannot be made, nothing else waits for it.
    monitor = [monitors.pod_monitor(own, seen.defaults.monitor)] if out and seen.defaults.monitor else []
    return (*_unique(out), *routes.wanted(seen, _routable(seen, state, kept), _launches(kept)), *monitor)


def _routable(seen: Snapshot, state: Rollout, kept: Mapping[str, manifests.Revision]) -> Rollout:
    """Return *state* without a candidate that has no Service yet, since it waits for room.

    A route that names a Service which is not there is not resolved, even with weight 0.
    """
    candidate = state.candidate
    if candidate is None or candidate.hash in kept:
        return state
    is_there = any(child.kind == "Service" and child.revision == candidate.hash for child in seen.children)
    return state if is_there else replace(state, candidate=None)


def _launches(kept: Mapping[str, manifests.Revision]) -> dict[str, Launch]:
    return {revision: record.launch for revision, record in kept.items()}


def _unique(objects: list[Manifest]) -> list[Manifest]:
    """Return the objects without repeats: two revisions of one version share a volume and a claim."""
    return list({(o["kind"], o["metadata"]["name"]): o for o in objects}.values())


def _leftovers(seen: Snapshot, state: Rollout, kept: Mapping[str, manifests.Revision]) -> tuple[Ref, ...]:
    """Return children of revisions that nobody needs: no role, and no accepted route names them.

    While the gateway has not answered for the last write, an older one may still send to any of them.
    """
    candidate = None if state.is_before_start else state.candidate
    needed = {r.hash for r in (state.stable, candidate, state.previous) if r is not None}
    named = routes.named(seen, state)
    unmonitored = () if seen.defaults.monitor else seen.monitors
    stale = (*routes.stale(seen, state, _launches(kept)), *unmonitored)
    return stale if named is None else (*stale, *_unneeded(seen, needed | named))


def _unneeded(seen: Snapshot, needed: set[str]) -> tuple[Ref, ...]:
    return tuple(
        Ref(child.api_version, child.kind, seen.namespace, child.name, child.uid)
        for child in seen.children
        if child.revision not in needed and child.kind != "HTTPRoute"
    )
