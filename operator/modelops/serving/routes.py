"""Where requests go: the route of a service and what our Gateway made of it, or one Service without it."""

from collections.abc import Iterator
from dataclasses import dataclass

from modelops.plan import Manifest, Reason, Ref
from modelops.rollouts.seen import Route
from modelops.rollouts.state import Revision, Rollout
from modelops.rollouts.traffic import FULL, TOO_UNLIKELY, Shares, measured_percent, mismatch, shares
from modelops.serving import demand, manifests
from modelops.serving.snapshot import RouteRow, Snapshot

MIRROR = "HTTPRouteRequestMirror"
PERCENT_MIRROR = "HTTPRouteRequestPercentageMirror"
PERSISTENCE = ("HTTPRouteSessionPersistenceCookie", "HTTPRouteSessionPersistence")
"""Names of session persistence in supportedFeatures; it is experimental in the Gateway API."""


def wanted(seen: Snapshot, state: Rollout) -> tuple[Manifest, ...]:
    """Return the route with its shares, or the Service of the name; nothing before something serves."""
    candidate = _ready(seen, state.candidate)
    goal = shares(state, candidate_ready=candidate)
    if not goal.weights:
        return ()
    owner = manifests.Owner(seen.namespace, seen.name, seen.service.uid)
    gateway = demand.gateway(seen)
    if gateway is None:
        return (manifests.apex(owner, _selected(goal)),)
    traffic = seen.service.spec.traffic
    whole = manifests.route(
        owner,
        gateway,
        hostnames=demand.hostnames(seen, gateway),
        path=traffic.path if traffic and traffic.path else "/",
        shares=goal,
        matches=seen.policy.matches if seen.policy else (),
        affinity=_affinity(seen, state),
    )
    return (whole, *_preview(seen, state, owner, gateway))


def accepted(seen: Snapshot, state: Rollout) -> Route:
    """Return what the accepted route does; an old answer of the gateway counts as none."""
    if demand.gateway(seen) is None:
        return _by_pods(seen, state)
    row = seen.route
    if row is None:
        return Route(0, "")
    if not row.is_accepted:
        fault = Reason("RouteNotAccepted", f"{seen.name}: {row.fault}") if row.fault else None
        return Route(None, "", fault=fault)
    candidate = state.candidate.hash if state.candidate else "-"
    by_hash = {_hash(name): weight for name, weight in row.weights}
    total = sum(by_hash.values()) or 1
    return Route(
        round(FULL * by_hash.get(candidate, 0) / total),
        max(by_hash, key=lambda h: by_hash[h], default=""),
        mirror=row.mirror[1] if row.mirror and _hash(row.mirror[0]) == candidate else 0,
        is_matched=_hash(row.matched) == candidate,
    )


def named(seen: Snapshot) -> set[str] | None:
    """Return the revisions that the accepted route may send to; None: any, its last write is not accepted."""
    if demand.gateway(seen) is None or seen.route is None:
        return set()
    if not seen.route.is_accepted:
        return None
    return {_hash(name) for name in _names(seen.route)}


def stale(seen: Snapshot, state: Rollout) -> Iterator[Ref]:
    """Yield what belongs to a kind of splitting that is over: a route, the Service of the name, a preview."""
    if demand.gateway(seen) is None:
        if seen.route:
            yield Ref(manifests.ROUTE_API, "HTTPRoute", seen.namespace, seen.name)
    elif seen.apex is not None:
        yield Ref("v1", "Service", seen.namespace, seen.name, seen.apex.uid)
    shown = state.candidate.hash if state.candidate and _is_previewed(seen, state) else ""
    for child in seen.children:
        if child.kind == "HTTPRoute" and child.revision != shown:
            yield Ref(child.api_version, child.kind, seen.namespace, child.name, child.uid)


def unsupported(seen: Snapshot) -> Reason | None:
    """Return what the policy asks for that the gateway cannot do; None: nothing."""
    policy = seen.policy
    if policy is None:
        return None
    needs: list[tuple[str, str, bool]] = []
    if policy.mirror is not None:
        has_all = policy.mirror.percent == FULL
        needs.append(("mirrored requests", MIRROR if has_all else PERCENT_MIRROR, False))
    if policy.affinity is not None:
        needs.append(("session affinity", PERSISTENCE[0], True))
    gateway = demand.gateway(seen)
    if gateway is None:
        wants = [what for what, _, _ in needs] + (["matched requests"] if policy.matches else [])
        text = f"{seen.name}: needs a gateway for {wants[0]}, found none; set one" if wants else ""
        return Reason("Unsupported", f"{text} or leave it out of the policy") if wants else None
    return next(
        (
            _lacks(seen, what, feature)
            for what, feature, must in needs
            if _is_missing(seen, feature, must=must)
        ),
        None,
    )


def _is_missing(seen: Snapshot, feature: str, *, must: bool) -> bool:
    """Return whether the GatewayClass does not list *feature*; with *must* silence is a no."""
    if seen.features is None:
        return must
    known = {feature, *PERSISTENCE} if feature in PERSISTENCE else {feature}
    return not known & seen.features


def _lacks(seen: Snapshot, what: str, feature: str) -> Reason:
    return Reason(
        "Unsupported",
        f"{seen.name}: needs {feature} for {what}, found it not listed by the GatewayClass; "
        "use another gateway or leave it out of the policy",
    )


# --- what was counted --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Counted:
    """The requests of both roles since the step began."""

    percent: float
    is_wrong: bool
    """Whether they do not go with the weight."""
    message: str


def counted(seen: Snapshot, state: Rollout) -> Counted | None:
    """Return the candidate's share of the requests at this step; None without a step or without requests."""
    if not state.is_at_step or not state.weight or state.step_at is None:
        return None
    since = state.step_at.timestamp()
    windows = [w for w in seen.measured.windows if w.start >= since and w.stable and w.canary]
    canary = sum(w.canary.requests or 0 for w in windows if w.canary)
    stable = sum(w.stable.requests or 0 for w in windows if w.stable)
    percent = measured_percent(canary, stable)
    if percent is None:
        return None
    is_wrong = demand.gateway(seen) is not None and mismatch(canary, stable, state.weight) > TOO_UNLIKELY
    message = (
        f"{seen.name}: needs {state.weight} % of the requests at the new version, counted {percent:.3g} % of "
        f"{canary + stable}; look for kept connections, pinned clients or retries at the gateway"
    )
    return Counted(round(percent, 1), is_wrong, message)


# --- without a gateway -------------------------------------------------------------------------------


def effective_percent(seen: Snapshot, state: Rollout) -> float | None:
    """Return the candidate's share by ready pods, where one Service splits; None: a gateway does."""
    if demand.gateway(seen) is not None or state.candidate is None:
        return None
    if seen.apex is None or seen.apex.revision:
        return FULL if seen.apex and seen.apex.revision == state.candidate.hash else 0
    candidate, stable = _ready(seen, state.candidate), _ready(seen, state.stable)
    return round(FULL * candidate / max(1, candidate + stable), 1)


def _by_pods(seen: Snapshot, state: Rollout) -> Route:
    """Return what the Service of the name does: all to one revision, or shared by the pods of both."""
    if seen.apex is None:
        return Route(0, "")
    candidate = state.candidate.hash if state.candidate else "-"
    stable = state.stable.hash if state.stable else ""
    if seen.apex.revision:
        return Route(FULL if seen.apex.revision == candidate else 0, seen.apex.revision)
    return Route(state.weight if 0 < state.weight < FULL else 1, stable)


def _selected(goal: Shares) -> str:
    """Return the revision whose pods get everything; empty: the pods of all share it."""
    return next((revision for revision, weight in goal.weights if weight == FULL), "")


# --- parts -------------------------------------------------------------------------------------------


def _preview(
    seen: Snapshot, state: Rollout, owner: manifests.Owner, gateway: manifests.Gateway
) -> tuple[Manifest, ...]:
    """Return the route under which a candidate is looked at before it gets requests of users."""
    hostnames = demand.hostnames(seen, gateway)
    if state.candidate is None or not hostnames or not _is_previewed(seen, state):
        return ()
    if _ready(seen, state.candidate) == 0:
        return ()
    return (
        manifests.preview(owner, gateway, hostname=f"preview-{hostnames[0]}", revision=state.candidate.hash),
    )


def _is_previewed(seen: Snapshot, state: Rollout) -> bool:
    is_coming = state.candidate is not None and not (state.is_before_start or state.is_leaving)
    return is_coming and seen.policy is not None and seen.policy.switch is not None


def _affinity(seen: Snapshot, state: Rollout) -> manifests.Affinity | None:
    """Return how clients are pinned while a run splits them; the cookie dies with the run."""
    policy = seen.policy
    if policy is None or policy.affinity is None or not (state.is_at_step and state.weight):
        return None
    return manifests.Affinity(f"{policy.affinity.cookie}-{state.run_id}", policy.affinity.max_age)


def _ready(seen: Snapshot, revision: Revision | None) -> int:
    return sum(
        pod.is_ready
        for pod in seen.pods
        if revision is not None and pod.revision == revision.hash and not pod.is_terminating
    )


def _names(row: RouteRow) -> Iterator[str]:
    yield from (name for name, _ in row.weights)
    if row.mirror:
        yield row.mirror[0]
    if row.matched:
        yield row.matched


def _hash(service: str) -> str:
    """Return the revision whose Service bears this name."""
    return service.rpartition("-")[2]
