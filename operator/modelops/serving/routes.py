"""Where requests go: by routes of ours, a route of the user's, or one Service over pods without a gateway."""

from collections.abc import Iterator, Mapping

from modelops.api.names import CANARY, STABLE, role_service_name
from modelops.engines.base import Launch
from modelops.plan import Manifest, Patch, Reason, Ref
from modelops.rollouts.seen import Route
from modelops.rollouts.state import Revision, Rollout
from modelops.rollouts.traffic import FULL, Shares, shares
from modelops.serving import demand, features, lent, manifests, splitters
from modelops.serving.demand import Way
from modelops.serving.snapshot import LentRow, RouteRow, Snapshot
from modelops.serving.splitters import GRPC_ROUTE, HTTP_ROUTE, ROUTE_API

Launches = Mapping[str, Launch]
"""How the revisions are launched, by hash."""


def wanted(seen: Snapshot, state: Rollout, launches: Launches) -> tuple[Manifest, ...]:
    """Return the objects that send requests to the versions; nothing before something serves."""
    goal = _goal(seen, state)
    if not goal.weights:
        return ()
    owner = manifests.Owner(seen.namespace, seen.name, seen.service.uid)
    speaks_grpc = any(launch.grpc_port for launch in launches.values())
    roles = _role_services(seen, state, owner, grpc=speaks_grpc)
    match way(seen):
        case Way.PODS:
            return (*roles, splitters.apex(owner, _selected(goal), grpc=speaks_grpc))
        case Way.YOURS:
            return (*roles, *_preview(seen, state, owner))
        case Way.OWN:
            return (*roles, *_own(seen, state, owner, goal, launches), *_preview(seen, state, owner))


def patches(seen: Snapshot, state: Rollout) -> tuple[Patch, ...]:
    """Return the weights to change in routes of users: those of the run, or what was found before it.

    A route that another policy named before gives all to stable, until it can have back what it had.
    """
    goal = _goal(seen, state)
    if not goal.weights or state.stable is None or not seen.aims:
        return ()
    next_ = _next_aims(seen, state)
    share = lent.split(goal.weights, seen.aims, next_)
    home = lent.split(((state.stable.hash, FULL),), seen.aims, next_)
    has_run = len({*seen.aims.values(), *_wanted_aims(seen, state)}) > 1
    found = []
    for row in seen.lent:
        is_meant = way(seen) is Way.YOURS and row == yours(seen)
        if not has_run:
            found.append(lent.give_back(row, seen.name, seen.namespace))
        elif is_meant and share is not None and _may(seen, share):
            found.append(lent.shift(row, seen.name, seen.namespace, share))
        elif not is_meant and row.found is not None and home is not None:
            found.append(lent.shift(row, seen.name, seen.namespace, home))
    return tuple(patch for patch in found if patch is not None)


def accepted(seen: Snapshot, state: Rollout) -> Route:
    """Return what the accepted routes do; an old answer of the gateway counts as none."""
    candidate = state.candidate.hash if state.candidate else "-"
    match way(seen):
        case Way.PODS:
            return _by_pods(seen, state)
        case Way.YOURS:
            return _by_yours(seen, state, candidate)
        case Way.OWN:
            return _together(_does(seen, seen.route, candidate), _grpc(seen, candidate), state.weight)


def named(seen: Snapshot, state: Rollout) -> set[str] | None:
    """Return the revisions that an accepted route may send to; None: any, its last write is not accepted."""
    rows = [row for row in (seen.route, seen.grpc_route) if row is not None]
    if demand.by_pods(seen):
        rows = []
    if not all(_is_accepted(row, state) or (row is seen.grpc_route and row.is_refused) for row in rows):
        return None
    return {_hash(name) for row in rows for name in _names(row)} | set(seen.aims.values())


def stale(seen: Snapshot, state: Rollout, launches: Launches) -> Iterator[Ref]:
    """Yield what belongs to a kind of splitting that is over: a route, a Service, a preview."""
    by = way(seen)
    is_over = by is Way.PODS or (by is Way.YOURS and _takes_over(seen, state))
    if seen.route and is_over:
        yield Ref(ROUTE_API, HTTP_ROUTE, seen.namespace, seen.name)
    if seen.grpc_route and (is_over or not has_grpc_route(seen, launches)):
        yield Ref(ROUTE_API, GRPC_ROUTE, seen.namespace, seen.name)
    if by is not Way.PODS and seen.apex is not None:
        yield Ref("v1", "Service", seen.namespace, seen.name, seen.apex.uid)
    if not has_roles(seen):
        for role in seen.aims:
            yield Ref("v1", "Service", seen.namespace, role_service_name(seen.name, role))
    shown = state.candidate.hash if state.candidate and _is_previewed(seen, state) else ""
    for child in seen.children:
        if child.kind == HTTP_ROUTE and child.revision != shown:
            yield Ref(child.api_version, child.kind, seen.namespace, child.name, child.uid)


# --- which way ---------------------------------------------------------------------------------------


def way(seen: Snapshot) -> Way:
    """Return what sends requests; a route of our own goes on while the user's cannot be used."""
    asked = demand.way(seen)
    return Way.OWN if asked is Way.YOURS and seen.route is not None and fault(seen) is not None else asked


def yours(seen: Snapshot) -> LentRow | None:
    """Return the user's route that the policy names; None: it names none, or none that knows our Services."""
    wanted_ = demand.your_route(seen)
    if wanted_ is None:
        return None
    rows = (row for row in seen.lent if (row.kind, row.name) == (wanted_.kind, wanted_.name))
    return next(rows, None)


def fault(seen: Snapshot) -> Reason | None:
    """Return why the route that the policy names cannot be used; None: it can, or the policy names none."""
    wanted_ = demand.your_route(seen)
    if wanted_ is None:
        return None
    strays = (row for row in seen.lent if row != yours(seen) and row.found is None)
    return lent.unusable(yours(seen), seen.name, str(wanted_), seen.namespace, strays)


def has_roles(seen: Snapshot) -> bool:
    """Return whether each role has a Service of its own: a route of a user may send to it."""
    return way(seen) is Way.YOURS or any(row.backends for row in seen.lent)


def has_grpc_route(seen: Snapshot, launches: Launches) -> bool:
    """Return whether gRPC gets a route: an engine speaks it, and the GatewayClass says that it does."""
    speaks_grpc = any(launch.grpc_port for launch in launches.values())
    return speaks_grpc and seen.features is not None and GRPC_ROUTE in seen.features


def _may(seen: Snapshot, share: Mapping[str, int]) -> bool:
    """Return whether the weights can be written: all or nothing always can."""
    return fault(seen) is None or set(share.values()) == {0, FULL}


def is_accepted(seen: Snapshot, state: Rollout) -> bool:
    """Return whether the gateway accepted the newest of what sends requests."""
    if way(seen) is Way.YOURS:
        row = yours(seen)
        return row is not None and lent.is_accepted(row, takes_alone=state.takes_alone)
    return seen.route is not None and _is_accepted(seen.route, state)


def senders(seen: Snapshot, state: Rollout) -> list[Manifest]:
    """Return what sends requests, for people, and to know it again while the policy is away."""
    by, out = way(seen), []
    if by is Way.PODS:
        return [{"kind": "Service", "name": seen.name}]
    if by is Way.OWN:
        rows = ((HTTP_ROUTE, seen.route), (GRPC_ROUTE, seen.grpc_route))
        out = [
            {"kind": kind, "name": seen.name, "accepted": row is not None and _is_accepted(row, state)}
            for kind, row in rows
            if row is not None or kind == HTTP_ROUTE
        ]
    wanted_, row = demand.your_route(seen), yours(seen)
    if wanted_ is not None:
        can = row is not None and lent.is_accepted(row, takes_alone=state.takes_alone)
        out.append({"kind": wanted_.kind, "name": wanted_.name, "accepted": can, "yours": True})
    return out


def _takes_over(seen: Snapshot, state: Rollout) -> bool:
    """Return whether the user's route carries the requests, so that ours may go."""
    row = yours(seen)
    return row is not None and lent.is_accepted(row, takes_alone=state.takes_alone) and len(seen.aims) > 1


def _is_accepted(row: RouteRow, state: Rollout) -> bool:
    return row.is_accepted or (row.is_alone and state.takes_alone)


# --- routes of our own -------------------------------------------------------------------------------


def _own(
    seen: Snapshot, state: Rollout, owner: manifests.Owner, goal: Shares, launches: Launches
) -> tuple[Manifest, ...]:
    gateway = demand.gateway(seen)
    if gateway is None:
        return ()
    traffic, hosts = seen.service.spec.traffic, demand.hostnames(seen, gateway)
    matches = seen.policy.matches if seen.policy else ()
    whole = splitters.route(
        owner,
        gateway,
        hostnames=hosts,
        path=traffic.path if traffic and traffic.path else splitters.ANY_PATH,
        shares=goal,
        matches=matches,
        affinity=_affinity(seen, state, goal),
    )
    speaking = [(h, weight) for h, weight in goal.weights if h in launches and launches[h].grpc_port]
    if not hosts or not any(weight for _, weight in speaking) or not has_grpc_route(seen, launches):
        return (whole,)
    if len(speaking) == 1:
        speaking = [(speaking[0][0], FULL)]  # the other one would answer no call
    matched = goal.matched if goal.matched in dict(speaking) else ""
    grpc = splitters.grpc_route(
        owner, gateway, hostnames=hosts, weights=speaking, matched=matched, matches=matches
    )
    return (whole, grpc)


def _does(seen: Snapshot, row: RouteRow | None, candidate: str) -> Route:
    """Return what a route of ours does with requests."""
    if row is None:
        return Route(0, "")
    by_hash = {_hash(name): weight for name, weight in row.weights}
    total = sum(by_hash.values()) or 1
    route = Route(
        round(FULL * by_hash.get(candidate, 0) / total),
        max(by_hash, key=lambda h: by_hash[h], default=""),
        mirror=row.mirror[1] if row.mirror and _hash(row.mirror[0]) == candidate else 0,
        is_matched=_hash(row.matched) == candidate,
        is_pinned=candidate in {_hash(name) for name in row.pinned},
    )
    if row.is_accepted:
        return route
    said = Reason("RouteNotAccepted", f"{seen.name}: {row.fault}") if row.fault else None
    return Route(None, "", fault=said, alone=route if row.is_alone else None)


def _grpc(seen: Snapshot, candidate: str) -> Route | None:
    """Return what the GRPCRoute does; None: it says nothing about the candidate, or nothing comes by it.

    A gateway that refuses it, since its listener takes no such routes, sends nothing there.
    """
    row = seen.grpc_route
    if row is None or row.is_refused:
        return None
    knows = candidate in {_hash(name) for name in _names(row)}
    answered = row.is_accepted or row.is_alone
    return _does(seen, row, candidate) if knows or not answered else None


def _together(http: Route, grpc: Route | None, weight: int) -> Route:
    """Return what both routes do; where they differ, the share that is not asked for, since it has to go."""
    if grpc is None:
        return http
    if http.candidate_weight is None or grpc.candidate_weight is None:
        alones = [r.alone or (r if r.candidate_weight is not None else None) for r in (http, grpc)]
        one, two = alones
        alone = _together(one, two, weight) if one is not None and two is not None else None
        return Route(None, "", fault=http.fault or grpc.fault, alone=alone)
    weights = (http.candidate_weight, grpc.candidate_weight)
    other = next((w for w in weights if w != weight), weight)
    return Route(
        other,
        http.stable_hash,
        http.mirror,
        http.is_matched or grpc.is_matched,
        http.is_pinned,
    )


# --- a route of the user's ---------------------------------------------------------------------------


def _role_services(
    seen: Snapshot, state: Rollout, owner: manifests.Owner, *, grpc: bool
) -> tuple[Manifest, ...]:
    if not has_roles(seen):
        return ()
    next_ = _next_aims(seen, state)
    return tuple(splitters.role_service(owner, role, next_[role], grpc=grpc) for role in (STABLE, CANARY))


def _next_aims(seen: Snapshot, state: Rollout) -> dict[str, str]:
    """Return what the Services of the roles select next."""
    free = lent.free(seen.lent, seen.name, takes_alone=state.takes_alone)
    return lent.aimed(*_wanted_aims(seen, state), seen.aims, free)


def _wanted_aims(seen: Snapshot, state: Rollout) -> tuple[str, str]:
    """Return the revisions that the Services of stable and canary should select."""
    assert state.stable is not None
    comes = way(seen) is Way.YOURS and state.candidate is not None and not state.is_before_start
    return state.stable.hash, state.candidate.hash if comes and state.candidate else state.stable.hash


def _by_yours(seen: Snapshot, state: Rollout, candidate: str) -> Route:
    row, wrong = yours(seen), fault(seen)
    if row is None or not row.backends or not seen.aims:
        return Route(0, "", fault=wrong)
    return lent.does(row, seen.name, seen.aims, candidate, takes_alone=False)


# --- without a gateway -------------------------------------------------------------------------------


def effective_percent(seen: Snapshot, state: Rollout) -> float | None:
    """Return the candidate's share by ready pods, where one Service splits; None: a gateway does."""
    if not demand.by_pods(seen) or state.candidate is None:
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


def _goal(seen: Snapshot, state: Rollout) -> Shares:
    return shares(state, candidate_ready=_ready(seen, state.candidate))


def _preview(seen: Snapshot, state: Rollout, owner: manifests.Owner) -> tuple[Manifest, ...]:
    """Return the route under which a candidate is looked at before it gets requests of users."""
    gateway = demand.gateway(seen)
    hosts = demand.hostnames(seen, gateway) if gateway else ()
    if gateway is None or state.candidate is None or not hosts or not _is_previewed(seen, state):
        return ()
    if _ready(seen, state.candidate) == 0:
        return ()
    (host,) = splitters.prefixed("preview", hosts[:1])
    return (splitters.preview(owner, gateway, hostname=host, revision=state.candidate.hash),)


def _is_previewed(seen: Snapshot, state: Rollout) -> bool:
    is_coming = state.candidate is not None and not (state.is_before_start or state.is_leaving)
    return is_coming and seen.policy is not None and seen.policy.switch is not None


def _affinity(seen: Snapshot, state: Rollout, goal: Shares) -> splitters.Affinity | None:
    """Return how clients are pinned while a run splits them; the cookie dies with the run."""
    policy = seen.policy
    if policy is None or policy.affinity is None or not state.is_at_step or features.unsupported(seen):
        return None
    if state.candidate is None or not dict(goal.weights).get(state.candidate.hash):
        return None  # nobody may be kept with a version that gets nothing
    given = policy.affinity
    return splitters.Affinity(f"{given.cookie}-{state.run_id}", given.max_age, given.by)


def _ready(seen: Snapshot, revision: Revision | None) -> int:
    return sum(
        pod.is_ready
        for pod in seen.pods
        if revision is not None and pod.revision == revision.hash and not pod.is_terminating
    )


def _names(row: RouteRow) -> Iterator[str]:
    yield from (name for name, _ in row.weights)
    yield from row.pinned
    if row.mirror:
        yield row.mirror[0]
    if row.matched:
        yield row.matched


def _hash(service: str) -> str:
    """Return the revision whose Service bears this name."""
    return service.rpartition("-")[2]
