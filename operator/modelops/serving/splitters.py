"""The objects that send requests to versions: routes, and Services over the pods of a role or of all."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from modelops.api import names
from modelops.api.policy import Matched, PinnedBy
from modelops.plan import Manifest
from modelops.rollouts.traffic import FULL, Shares
from modelops.serving.manifests import GRPC, HTTP, Gateway, Owner, meta, service_labels

ROUTE_API = "gateway.networking.k8s.io/v1"
HTTP_ROUTE, GRPC_ROUTE = "HTTPRoute", "GRPCRoute"
ANY_PATH = "/"

Weights = Iterable[tuple[str, int]]
"""(revision hash, percent)."""


@dataclass(frozen=True, slots=True)
class Affinity:
    """How clients are pinned."""

    cookie: str
    """Whole name of the cookie."""
    max_age: timedelta
    by: PinnedBy = PinnedBy.GATEWAY


# --- Services ----------------------------------------------------------------------------------------


def apex(owner: Owner, revision: str, *, grpc: bool = False) -> Manifest:
    """Return the Service of the name, where no gateway splits.

    It selects the pods of one revision, or with none those of all, so that their numbers are the shares; no
    label of a pod ever changes.
    """
    return _service(owner, owner.name, revision, grpc=grpc)


def role_service(owner: Owner, role: str, revision: str, *, grpc: bool = False) -> Manifest:
    """Return the Service that a route of a user sends to: the pods of the revision that has the role."""
    return _service(owner, names.role_service_name(owner.name, role), revision, grpc=grpc)


def _service(owner: Owner, name: str, revision: str, *, grpc: bool) -> Manifest:
    selector = {names.SERVICE: owner.name} | ({names.REVISION: revision} if revision else {})
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(owner, name, service_labels(owner)),
        "spec": {"selector": selector, "ports": [HTTP, GRPC] if grpc else [HTTP]},
    }


# --- routes ------------------------------------------------------------------------------------------


def route(
    owner: Owner,
    gateway: Gateway,
    *,
    hostnames: tuple[str, ...],
    path: str,
    shares: Shares,
    matches: tuple[Matched, ...] = (),
    affinity: Affinity | None = None,
) -> Manifest:
    """Return the whole HTTPRoute; the last rule is for all requests.

    The request timeout is switched off: a stream may last as long as its answer, and the drain bounds it.
    """
    where = {"path": {"type": "PathPrefix", "value": path}}
    rule = _rule(owner, [where], shares.weights)
    if shares.mirror is not None:
        rule["filters"] = [_mirror(owner, *shares.mirror)]
    rules = [rule]
    if affinity is not None and affinity.by is PinnedBy.GATEWAY:
        rule["sessionPersistence"] = _persistence(affinity)
    elif affinity is not None:
        rules = _pinned(owner, where, rule, shares, affinity)
    if shares.matched and matches:
        chosen = [{**where, "headers": [_header(match)]} for match in matches]
        rules.insert(0, _rule(owner, chosen, ((shares.matched, FULL),)))
    return _route(HTTP_ROUTE, owner, gateway, owner.name, hostnames, rules, service_labels(owner))


def grpc_route(
    owner: Owner,
    gateway: Gateway,
    *,
    hostnames: tuple[str, ...],
    weights: Weights,
    matched: str = "",
    matches: tuple[Matched, ...] = (),
) -> Manifest:
    """Return the whole GRPCRoute; the last rule is for all requests.

    Its host names are not those of the HTTPRoute: of two routes of different kinds that share one on a
    listener a gateway accepts only the older.  Source: Gateway API 1.6, GRPCRoute.spec.hostnames.
    """
    rules: list[Manifest] = [{"backendRefs": _backends(owner, weights, GRPC["port"])}]
    if matched and matches:
        chosen = [{"headers": [_header(match)]} for match in matches]
        backends = _backends(owner, ((matched, FULL),), GRPC["port"])
        rules.insert(0, {"matches": chosen, "backendRefs": backends})
    hosts = prefixed("grpc", hostnames)
    return _route(GRPC_ROUTE, owner, gateway, owner.name, hosts, rules, service_labels(owner))


def preview(owner: Owner, gateway: Gateway, *, hostname: str, revision: str) -> Manifest:
    """Return the route under which people look at a candidate before it gets requests of users."""
    rule = _rule(owner, [{"path": {"type": "PathPrefix", "value": ANY_PATH}}], ((revision, FULL),))
    labels = {**service_labels(owner), names.REVISION: revision}
    name = names.revision_name(owner.name, revision)
    return _route(HTTP_ROUTE, owner, gateway, name, (hostname,), [rule], labels)


def prefixed(word: str, hostnames: Iterable[str]) -> tuple[str, ...]:
    """Return the host names with *word* before each; a wildcard's own name becomes the word."""
    return tuple(f"{word}.{h[2:]}" if h.startswith("*.") else f"{word}-{h}" for h in hostnames)


# --- parts -------------------------------------------------------------------------------------------


def _route(
    kind: str,
    owner: Owner,
    gateway: Gateway,
    name: str,
    hostnames: tuple[str, ...],
    rules: list[Manifest],
    labels: Mapping[str, str],
) -> Manifest:
    parent: Manifest = {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "name": gateway.name,
        "namespace": gateway.namespace,
    }
    if gateway.section:
        parent["sectionName"] = gateway.section
    return {
        "apiVersion": ROUTE_API,
        "kind": kind,
        "metadata": meta(owner, name, labels),
        "spec": {"parentRefs": [parent], "hostnames": list(hostnames), "rules": rules},
    }


def _rule(owner: Owner, matches: list[Manifest], weights: Weights) -> Manifest:
    return {
        "matches": matches,
        "timeouts": {"request": "0s"},
        "backendRefs": _backends(owner, weights, HTTP["port"]),
    }


def _backends(owner: Owner, weights: Weights, port: int) -> list[Manifest]:
    return [{**_backend(owner, revision, port), "weight": weight} for revision, weight in weights]


def _backend(owner: Owner, revision: str, port: int) -> Manifest:
    return {"group": "", "kind": "Service", "name": names.revision_name(owner.name, revision), "port": port}


def _mirror(owner: Owner, revision: str, percent: int) -> Manifest:
    """Return the filter that copies requests; all of them is what every gateway that mirrors can do."""
    mirror: Manifest = {"backendRef": _backend(owner, revision, HTTP["port"])}
    return {
        "type": "RequestMirror",
        "requestMirror": mirror if percent == FULL else {**mirror, "percent": percent},
    }


def _persistence(affinity: Affinity) -> Manifest:
    """Return the rule's session persistence: it pins a client to any backend, so both roles are sticky."""
    return {
        "sessionName": affinity.cookie,
        "type": "Cookie",
        "absoluteTimeout": f"{int(affinity.max_age.total_seconds())}s",
        "cookieConfig": {"lifetimeType": "Permanent"},
    }


def _pinned(
    owner: Owner, where: Manifest, rule: Manifest, shares: Shares, affinity: Affinity
) -> list[Manifest]:
    """Return the rules that keep a client where its cookie says, and *rule*, whose answers set the cookie.

    Both roles are pinned: a cookie for the candidate alone would bring all clients there with time.
    """
    revisions = [revision for revision, _ in shares.weights]
    seconds, path = int(affinity.max_age.total_seconds()), where["path"]["value"]
    for revision, backend in zip(revisions, rule["backendRefs"], strict=True):
        value = f"{affinity.cookie}={revision}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Lax"
        add = {"add": [{"name": "Set-Cookie", "value": value}]}
        backend["filters"] = [{"type": "ResponseHeaderModifier", "responseHeaderModifier": add}]
    return [
        *(
            _rule(owner, [{**where, "headers": [_cookie(affinity.cookie, revision)]}], ((revision, FULL),))
            for revision in revisions
        ),
        rule,
    ]


def _header(match: Matched) -> Manifest:
    """Return a header match; a cookie is one part of the header of that name."""
    if match.is_cookie:
        return _cookie(match.name, match.value)
    return {"type": "Exact", "name": match.name, "value": match.value}


def _cookie(name: str, value: str) -> Manifest:
    pattern = f"(.*; *)?{re.escape(name)}={re.escape(value)}(;.*)?"
    return {"type": "RegularExpression", "name": "Cookie", "value": pattern}
