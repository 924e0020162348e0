"""What is remembered of routes and gateways: weights, what they say, and what they can do."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from sys import intern
from typing import Any

from modelops.api import names
from modelops.controllers.store import Row
from modelops.plan import Manifest
from modelops.serving.snapshot import BackendRow, LentRow, RouteRow

Found = Mapping[tuple[int, str], int | None]
"""Weights of a route of a user as they were found, by rule and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteStored(Row):
    """An HTTPRoute or GRPCRoute: of ours all, of others what has to do with our services."""

    service: str
    """Empty: the route is a user's own."""
    revision: str
    """Of a preview; empty for the route of the service."""
    ours: RouteRow
    lent: tuple[BackendRow, ...] = ()
    """Backends of the rules that name a Service of a role."""
    found: Mapping[str, Found]
    """By service, the weights that its run found."""
    has_annotations: bool
    hostnames: tuple[str, ...]


def route(obj: Manifest) -> RouteStored:
    """Return the row; our own routes have one parent, those of users as many as they like."""
    meta, spec = obj["metadata"], obj.get("spec") or {}
    labels, notes = meta.get("labels") or {}, meta.get("annotations") or {}
    is_ours = labels.get(names.MANAGED_BY) == names.MANAGED_BY_VALUE
    answer = _answer(obj)
    lent = () if is_ours else tuple(_lent(spec.get("rules") or (), meta.get("namespace") or ""))
    return RouteStored.of(
        obj,
        service=intern(labels.get(names.SERVICE, "")) if is_ours else "",
        revision=intern(labels.get(names.REVISION, "")) if is_ours else "",
        ours=_ours(spec.get("rules") or [{}], answer),
        lent=lent,
        found=dict(_found(notes)),
        has_annotations=bool(notes),
        hostnames=tuple(spec.get("hostnames") or ()) if lent else (),
    )


def services_lent(row: Row) -> Iterable[str]:
    """Return the services that a route of a user has to do with, for an index."""
    assert isinstance(row, RouteStored)
    named = {names.service_of_role(backend.name) for backend in row.lent} | set(row.found)
    return (f"{row.namespace}/{service}" for service in sorted(named) if service)


def lent(row: RouteStored, kind: str, service: str) -> LentRow:
    """Return the route of a user as the plan of *service* reads it."""
    return LentRow(
        kind=kind,
        name=row.name,
        uid=row.uid,
        resource_version=str(row.resource_version),
        backends=row.lent,
        found=row.found.get(service),
        has_annotations=row.has_annotations,
        hostnames=row.hostnames,
        is_accepted=row.ours.is_accepted,
        is_alone=row.ours.is_alone,
        fault=row.ours.fault,
    )


def route_drifted(row: Row, wanted: Manifest) -> bool:
    """Say whether somebody changed by hand where requests go."""
    assert isinstance(row, RouteStored)
    told = _ours(wanted["spec"]["rules"], Answer())
    return _way(row.ours) != _way(told)


def _way(row: RouteRow) -> tuple[object, ...]:
    return row.weights, row.mirror, row.matched, row.pinned


# --- our own routes ----------------------------------------------------------------------------------


def _ours(rules: list[Mapping[str, Any]], answer: "Answer") -> RouteRow:
    """Return where requests go; rules before the last are for chosen requests, or for pinned clients."""
    *chosen, last = rules
    sends = tuple(name for rule in chosen for name, weight in _weights(rule) if weight)
    is_pinned = any(backend.get("filters") for backend in last.get("backendRefs") or ())
    return RouteRow(
        _weights(last),
        _mirror(last),
        "" if is_pinned else next(iter(sends), ""),
        pinned=sends if is_pinned else (),
        has_persistence="sessionPersistence" in last,
        is_accepted=answer.is_accepted,
        is_alone=answer.is_alone,
        is_refused=answer.is_refused,
        fault=answer.fault,
    )


def _weights(rule: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    return tuple((intern(b["name"]), int(b.get("weight", 1))) for b in rule.get("backendRefs") or ())


def _mirror(rule: Mapping[str, Any]) -> tuple[str, int] | None:
    """Return who gets copies, and of how many percent of the requests; all when it does not say."""
    for one in rule.get("filters") or ():
        if one.get("type") == "RequestMirror":
            mirror = one.get("requestMirror") or {}
            return str((mirror.get("backendRef") or {}).get("name", "")), int(mirror.get("percent", 100))
    return None


# --- routes of users ---------------------------------------------------------------------------------


def _lent(rules: Iterable[Mapping[str, Any]], namespace: str) -> Iterator[BackendRow]:
    for number, rule in enumerate(rules):
        backends = rule.get("backendRefs") or ()
        told = [_service_of(backend, namespace) for backend in backends]
        if any(names.service_of_role(name) for name in told):
            for index, (name, backend) in enumerate(zip(told, backends, strict=True)):
                yield BackendRow(number, index, name, backend.get("weight"))


def _service_of(backend: Mapping[str, Any], namespace: str) -> str:
    """Return the Service of the route's namespace that is meant; empty: it is something else."""
    is_service = (backend.get("group") or "", backend.get("kind") or "Service") == ("", "Service")
    is_here = (backend.get("namespace") or namespace) == namespace
    return str(backend.get("name", "")) if is_service and is_here else ""


def _found(notes: Mapping[str, str]) -> Iterator[tuple[str, Found]]:
    """Yield what was noted on a route; a note that was edited until nobody can read it holds nothing."""
    for key, text in notes.items():
        if key.startswith(names.FOUND_WEIGHTS):
            try:
                noted = {(int(rule), str(name)): weight for rule, name, weight in json.loads(text)}
            except (ValueError, TypeError):
                noted = {}
            yield key.removeprefix(names.FOUND_WEIGHTS), noted


# --- what parents say --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What the parents say about one generation of a route."""

    is_accepted: bool = False
    is_alone: bool = False
    is_refused: bool = False
    fault: str = ""


def _answer(obj: Manifest) -> Answer:
    """Return what all parents say together: the worst of them; no answer of one is no answer."""
    meta, status = obj["metadata"], obj.get("status") or {}
    generation, namespace = meta.get("generation", 0), meta.get("namespace") or ""
    wanted = [_parent(p, namespace) for p in (obj.get("spec") or {}).get("parentRefs") or ()]
    said: dict[tuple[object, ...], list[Answer]] = {parent: [] for parent in wanted}
    for entry in status.get("parents") or ():
        parent = _parent(entry.get("parentRef") or {}, namespace)
        if parent in said:
            known = {
                c["type"]: c
                for c in entry.get("conditions") or ()
                if c.get("observedGeneration", 0) >= generation  # an older one is about another route
            }
            said[parent].append(_says(known))
    answers = [answer for parent in wanted for answer in said[parent] or [Answer()]]
    return _worst(answers) if answers else Answer()


def _parent(reference: Mapping[str, Any], namespace: str) -> tuple[object, ...]:
    """Return who is meant, with what the API fills in."""
    return (
        reference.get("group", "gateway.networking.k8s.io"),
        reference.get("kind", "Gateway"),
        reference.get("namespace") or namespace,
        reference.get("name"),
        reference.get("sectionName"),
        reference.get("port"),
    )


def _says(known: Mapping[str, Mapping[str, Any]]) -> Answer:
    """Return what a parent's conditions say; with PartiallyInvalid an older route may still run."""
    accepted, resolved = known.get("Accepted"), known.get("ResolvedRefs")
    partly = known.get("PartiallyInvalid")
    bad = [c for c in (accepted, resolved) if c and c["status"] != "True"]
    bad += [partly] if partly and partly["status"] == "True" else []
    if bad:
        fault = f"{bad[0].get('reason', '')}: {bad[0].get('message', '')}"[:512]
        return Answer(is_refused=bool(accepted and accepted["status"] == "False"), fault=fault)
    return Answer(is_accepted=bool(accepted and resolved), is_alone=accepted is not None and resolved is None)


def _worst(answers: list[Answer]) -> Answer:
    fault = next((a.fault for a in answers if a.fault), "")
    if fault:
        return Answer(is_refused=all(a.is_refused for a in answers), fault=fault)
    is_heard = all(a.is_accepted or a.is_alone for a in answers)
    is_alone = is_heard and any(a.is_alone for a in answers)
    return Answer(is_accepted=is_heard and not is_alone, is_alone=is_alone)


# --- gateways ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStored(Row):
    """A Gateway: which class it is of."""

    class_name: str


def gateway(obj: Manifest) -> GatewayStored:
    return GatewayStored.of(obj, class_name=(obj.get("spec") or {}).get("gatewayClassName", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayClassStored(Row):
    """A GatewayClass: what it can do beyond the core."""

    features: frozenset[str] | None
    """None: it lists nothing."""


def gateway_class(obj: Manifest) -> GatewayClassStored:
    """Return the row; features were plain names before Gateway API 1.2."""
    listed = (obj.get("status") or {}).get("supportedFeatures") or ()
    names_ = frozenset(one["name"] if isinstance(one, Mapping) else str(one) for one in listed)
    return GatewayClassStored.of(obj, features=names_ or None)
