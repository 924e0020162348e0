"""Routes of users: what the Services of the roles select, and which numbers of the route a run changes.

A rule sends to `<service>-stable` and `<service>-canary`.  Their selectors follow the revisions, so that the
route never names one, and weights alone are changed: only while both Services select different revisions,
and from then on as they were found.  What was found is noted on the route itself, where it outlives the
service and its status.

Source: research/rollouts.md 9.2 and 9.6.
"""

import json
from collections.abc import Iterable, Mapping
from itertools import groupby
from math import gcd

from modelops.api.names import CANARY, FOUND_WEIGHTS, STABLE, role_service_name
from modelops.plan import Manifest, Patch, Reason, Ref
from modelops.rollouts.seen import Route
from modelops.rollouts.traffic import FULL
from modelops.serving.snapshot import BackendRow, LentRow
from modelops.serving.splitters import ROUTE_API

ROLES = (STABLE, CANARY)
Aims = Mapping[str, str]
"""Revision by role."""
Shares = Mapping[str, int]
"""Percent by role, or by revision."""


# --- what the Services select ------------------------------------------------------------------------


def aimed(stable: str, canary: str, aims: Aims, free: frozenset[str]) -> dict[str, str]:
    """Return the revision that the Service of each role selects next.

    A Service that gets requests is never turned: the weight leaves first.  When nothing selects *stable*,
    whatever is free does, since all requests have to go there.
    """
    wanted = {STABLE: stable, CANARY: canary}
    out = {role: wanted[role] if role in free else aims.get(role, wanted[role]) for role in ROLES}
    if stable not in out.values() and CANARY in free:
        out[CANARY] = stable
    return out


def free(rows: Iterable[LentRow], service: str, *, takes_alone: bool) -> frozenset[str]:
    """Return the roles that no rule of an accepted route sends a share to."""
    rows = tuple(rows)
    if not all(is_accepted(row, takes_alone=takes_alone) for row in rows):
        return frozenset()
    used = {
        role
        for row in rows
        for rule in _rules(row, service)
        for role in ROLES
        if _weight(_of_role(rule, service, role))
    }
    return frozenset(ROLES) - used


def split(weights: Iterable[tuple[str, int]], aims: Aims, next_: Aims) -> dict[str, int] | None:
    """Return percent by role for *weights* by revision; None: a Service has to turn first.

    Only a Service that selects its revision already, and goes on to, gets a share.
    """
    out = dict.fromkeys(ROLES, 0)
    for revision, percent in weights:
        if not percent:
            continue
        role = next((r for r in ROLES if aims.get(r) == revision == next_[r]), None)
        if role is None:
            return None
        out[role] += percent
    return out


# --- what the route does -----------------------------------------------------------------------------


def is_accepted(row: LentRow, *, takes_alone: bool) -> bool:
    """Return whether all parents of the route accepted its newest version."""
    return row.is_accepted or (row.is_alone and takes_alone)


def unusable(
    row: LentRow | None, service: str, named: str, namespace: str, strays: Iterable[LentRow] = ()
) -> Reason | None:
    """Return why no run can shift the weights of the route *named*; None: it can.

    *strays* are other routes that nobody changes: one that sends to the canary would do so at once.
    """
    stable, canary = (role_service_name(service, role) for role in ROLES)
    rules = [] if row is None else _rules(row, service)
    if row is None or not rules:
        return Reason(
            "RouteUnusable",
            f"{service}: needs {named} in namespace {namespace} with a rule that sends to the Services "
            f"{stable} and {canary}, each once, found none; add both to its backendRefs",
        )
    for rule in rules:
        found = sum(_found(row, backend) for backend in _ours(rule, service))
        if _has_others(rule, service) and found % FULL:
            return Reason(
                "RouteUnusable",
                f"{service}: needs weights of {stable} and {canary} that add up to a multiple of {FULL} in "
                f"rule {rule[0].rule} of {named}, since others have a share too, found {found}; multiply all "
                f"weights of the rule by {FULL // gcd(found, FULL)}",
            )
    for stray in strays:
        if any(_weight(_of_role(rule, service, CANARY)) for rule in _rules(stray, service)):
            return Reason(
                "RouteUnusable",
                f"{service}: needs {named} to be the only route that shares requests with {canary}, found "
                f"{stray.kind} {stray.name} doing so too; set its weight there to 0",
            )
    return None


def does(row: LentRow, service: str, aims: Aims, candidate: str, *, takes_alone: bool) -> Route:
    """Return what the route does with requests, by the revisions that its Services select."""
    shares = [_percent(rule, service, aims) for rule in _rules(row, service)]
    given = [share.get(candidate, 0) for share in shares]
    most = max(shares[0], key=lambda revision: shares[0][revision], default="") if shares else ""
    route = Route(max(given, default=0), most)
    if row.is_accepted or (row.is_alone and takes_alone):
        return route
    text = f"{service}: {row.kind} {row.name}: {row.fault}"
    fault = Reason("RouteNotAccepted", text) if row.fault else None
    return Route(None, "", fault=fault, alone=route if row.is_alone else None)


def _percent(rule: list[BackendRow], service: str, aims: Aims) -> dict[str, int]:
    backends = _ours(rule, service)
    total = sum(_weight(backend) for backend in backends)
    out: dict[str, int] = {}
    for role, backend in zip(ROLES, backends, strict=True):
        revision = aims.get(role, "")
        out[revision] = out.get(revision, 0) + (round(FULL * _weight(backend) / total) if total else 0)
    return out


# --- what is changed of it ---------------------------------------------------------------------------


def shift(row: LentRow, service: str, namespace: str, shares: Shares) -> Patch | None:
    """Return the change that gives each role its percent of what both had; None: nothing is to change."""
    changes: list[Manifest] = []
    for rule in _rules(row, service):
        total = sum(_found(row, backend) for backend in _ours(rule, service))
        whole = total if _has_others(rule, service) else FULL
        if not total:
            continue  # a rule that sends us nothing goes on to
        for role, backend in zip(ROLES, _ours(rule, service), strict=True):
            weight = whole * shares[role] // FULL
            if _weight(backend) != weight:
                changes.append({"op": "add", "path": _path(backend), "value": weight})
    if not changes:
        return None
    note = {"op": "add", "path": _note(service), "value": _noted(row, service)}
    first = () if row.has_annotations else ({"op": "add", "path": "/metadata/annotations", "value": {}},)
    return _patch(row, namespace, (*first, note, *changes))


def give_back(row: LentRow, service: str, namespace: str) -> Patch | None:
    """Return the change that makes the weights what they were when they were found; None: they are."""
    if row.found is None:
        return None
    changes: list[Manifest] = []
    for rule in _rules(row, service):
        for backend in _ours(rule, service):
            before = row.found.get((backend.rule, backend.name), backend.weight)
            if before == backend.weight:
                continue
            if before is None:
                changes.append({"op": "remove", "path": _path(backend)})
            else:
                changes.append({"op": "add", "path": _path(backend), "value": before})
    return _patch(row, namespace, (*changes, {"op": "remove", "path": _note(service)}))


def _patch(row: LentRow, namespace: str, operations: tuple[Manifest, ...]) -> Patch:
    return Patch(Ref(ROUTE_API, row.kind, namespace, row.name, row.uid, row.resource_version), operations)


def _path(backend: BackendRow) -> str:
    return f"/spec/rules/{backend.rule}/backendRefs/{backend.index}/weight"


def _note(service: str) -> str:
    return f"/metadata/annotations/{(FOUND_WEIGHTS + service).replace('/', '~1')}"


def _noted(row: LentRow, service: str) -> str:
    """Return the note of what was found: what stands there already, and rules that came since."""
    found = {
        (backend.rule, backend.name): (row.found or {}).get((backend.rule, backend.name), backend.weight)
        for rule in _rules(row, service)
        for backend in _ours(rule, service)
    }
    return json.dumps([[rule, name, weight] for (rule, name), weight in found.items()], separators=(",", ":"))


# --- parts -------------------------------------------------------------------------------------------


def _rules(row: LentRow, service: str) -> list[list[BackendRow]]:
    """Return the rules that send to both Services, each once; one alone is the user's business."""
    rules = [list(backends) for _, backends in groupby(row.backends, key=lambda backend: backend.rule)]
    names = [role_service_name(service, role) for role in ROLES]
    return [rule for rule in rules if all([b.name for b in rule].count(name) == 1 for name in names)]


def _ours(rule: list[BackendRow], service: str) -> list[BackendRow]:
    """Return the backends of the roles, stable first."""
    return [_of_role(rule, service, role) for role in ROLES]


def _of_role(rule: list[BackendRow], service: str, role: str) -> BackendRow:
    name = role_service_name(service, role)
    return next(backend for backend in rule if backend.name == name)


def _has_others(rule: list[BackendRow], service: str) -> bool:
    """Return whether somebody else gets requests of the rule too."""
    names = {role_service_name(service, role) for role in ROLES}
    return any(_weight(backend) for backend in rule if backend.name not in names)


def _weight(backend: BackendRow) -> int:
    return 1 if backend.weight is None else backend.weight


def _found(row: LentRow, backend: BackendRow) -> int:
    """Return the weight that the backend had when it was found."""
    before = (row.found or {}).get((backend.rule, backend.name), backend.weight)
    return 1 if before is None else before
