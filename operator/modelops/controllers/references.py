"""Which objects concern which: the indexes of the store, and the keys to plan again after a change."""

from collections.abc import Iterable, Mapping
from typing import Any

from modelops.api import names
from modelops.controllers import route_rows, rows
from modelops.controllers.context import BY_DIGEST, BY_VERSION
from modelops.controllers.rows import loaded
from modelops.controllers.store import Key, Row, Store

BY_MODEL = "model"
BY_ALIAS = "alias"
BY_POLICY = "policy"
WAITING = "waiting"
BY_SERVICE = "service"
BY_LENT = "lent"
"""Routes of users by the service that they have to do with."""


def service_versions(obj: Mapping[str, Any]) -> set[str]:
    """Return the versions that a service names, runs, or is about to run."""
    found = {(obj["spec"].get("model") or {}).get("version")}
    status = obj.get("status") or {}
    found.add(status.get("model"))
    for role in ("stable", "candidate"):
        found.add((status.get(role) or {}).get("version"))
    for record in (status.get("placement") or {}).get("revisions") or ():
        found.add(record.get("version"))
    return {name for name in found if name}


def is_waiting(obj: Mapping[str, Any]) -> bool:
    """Return whether a service waits for room on the nodes."""
    status = obj.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    return not conditions or conditions.get("Placed", {}).get("status") != "True"


# --- indexes -----------------------------------------------------------------------------------------


def services_by_version(row: Row) -> Iterable[str]:
    return (f"{row.namespace}/{name}" for name in service_versions(loaded(row)))


def services_by_alias(row: Row) -> Iterable[str]:
    name = (loaded(row)["spec"].get("model") or {}).get("name")
    return (f"{row.namespace}/{name}",) if name else ()


def services_by_policy(row: Row) -> Iterable[str]:
    name = (loaded(row)["spec"].get("rolloutPolicyRef") or {}).get("name")
    return (f"{row.namespace}/{name or ''}",)


def services_waiting(row: Row) -> Iterable[str]:
    return ("yes",) if is_waiting(loaded(row)) else ()


def versions_by_model(row: Row) -> Iterable[str]:
    return (f"{row.namespace}/{loaded(row)['spec'].get('modelRef')}",)


def versions_by_digest(row: Row) -> Iterable[str]:
    digest = (loaded(row).get("status") or {}).get("artifactDigest")
    return (digest,) if digest else ()


def approvals_by_version(row: Row) -> Iterable[str]:
    return (f"{row.namespace}/{loaded(row)['spec'].get('versionRef')}",)


def pods_by_service(row: Row) -> Iterable[str]:
    assert isinstance(row, rows.PodStored)
    return (f"{row.namespace}/{row.service}",) if row.service else ()


# --- keys --------------------------------------------------------------------------------------------


def _named(kind: str, namespace: str, found: Iterable[str]) -> Iterable[Key]:
    return (Key(kind, namespace, name) for name in found)


def _services(store: Store, index: str, value: str) -> Iterable[Key]:
    return (
        Key("InferenceService", row.namespace, row.name)
        for row in store.find("InferenceService", index, value)
    )


def of_service(row: Row, store: Store) -> Iterable[Key]:
    obj = loaded(row)
    yield Key("InferenceService", row.namespace, row.name)
    yield from _named("ModelVersion", row.namespace, service_versions(obj))
    policy = (obj["spec"].get("rolloutPolicyRef") or {}).get("name")
    if policy:
        yield Key("RolloutPolicy", row.namespace, policy)
    else:  # one of them may be the default
        policies = store.rows("RolloutPolicy", row.namespace)
        yield from (Key("RolloutPolicy", found.namespace, found.name) for found in policies)


def of_version(row: Row, store: Store) -> Iterable[Key]:
    yield Key("ModelVersion", row.namespace, row.name)
    model = loaded(row)["spec"].get("modelRef")
    if model:
        yield Key("Model", row.namespace, model)
        yield from _services(store, BY_ALIAS, f"{row.namespace}/{model}")
    yield from _services(store, BY_VERSION, f"{row.namespace}/{row.name}")


def of_model(row: Row, store: Store) -> Iterable[Key]:
    yield Key("Model", row.namespace, row.name)
    place = f"{row.namespace}/{row.name}"
    for version in store.find("ModelVersion", BY_MODEL, place):
        yield Key("ModelVersion", version.namespace, version.name)
        yield from _services(store, BY_VERSION, f"{version.namespace}/{version.name}")
    yield from _services(store, BY_ALIAS, place)


def of_approval(row: Row, store: Store) -> Iterable[Key]:
    yield Key("ModelApproval", row.namespace, row.name)
    version = loaded(row)["spec"].get("versionRef")
    if version:
        yield Key("ModelVersion", row.namespace, version)
        yield from _services(store, BY_VERSION, f"{row.namespace}/{version}")


def of_policy(row: Row, store: Store) -> Iterable[Key]:
    yield Key("RolloutPolicy", row.namespace, row.name)
    yield from _services(store, BY_POLICY, f"{row.namespace}/{row.name}")
    yield from _services(store, BY_POLICY, f"{row.namespace}/")


def of_namespace(row: Row, store: Store) -> Iterable[Key]:
    for kind in ("ModelVersion", "InferenceService"):
        yield from (Key(kind, found.namespace, found.name) for found in store.rows(kind, row.name))


def of_node(row: Row, store: Store) -> Iterable[Key]:
    return _services(store, WAITING, "yes")


def of_pod(row: Row, store: Store) -> Iterable[Key]:
    assert isinstance(row, rows.PodStored)
    if row.service:
        yield Key("InferenceService", row.namespace, row.service)
    if row.job and row.version:
        yield Key("ModelVersion", row.namespace, row.version)
    if row.evaluates:
        yield Key("InferenceService", row.namespace, row.evaluates)
    if row.use is not None or row.is_finished:
        yield from _services(store, WAITING, "yes")


def of_child(row: Row, store: Store) -> Iterable[Key]:
    service = getattr(row, "service", "")
    return (Key("InferenceService", row.namespace, service),) if service else ()


def of_route(row: Row, store: Store) -> Iterable[Key]:
    yield from of_child(row, store)
    for place in route_rows.services_lent(row):
        namespace, _, service = place.partition("/")
        if store.get("InferenceService", namespace, service) is not None:
            yield Key("InferenceService", namespace, service)


def of_gateway(row: Row, store: Store) -> Iterable[Key]:
    """Name every service: a gateway changes what it can do with its release only."""
    return (Key("InferenceService", found.namespace, found.name) for found in store.rows("InferenceService"))


def of_job(row: Row, store: Store) -> Iterable[Key]:
    assert isinstance(row, rows.JobStored)
    if row.version:
        yield Key("ModelVersion", row.namespace, row.version)
    if row.service:
        yield Key("InferenceService", row.namespace, row.service)


def of_model_node(row: Row, store: Store) -> Iterable[Key]:
    assert isinstance(row, rows.ModelNodeStored)
    for digest in row.cache:
        for version in store.find("ModelVersion", BY_DIGEST, digest):
            yield Key("ModelVersion", version.namespace, version.name)
            yield from _services(store, BY_VERSION, f"{version.namespace}/{version.name}")
    yield from of_node(row, store)


def of_volume(row: Row, store: Store) -> Iterable[Key]:
    assert isinstance(row, rows.VolumeStored)
    return _users(store, row.claim_namespace, row.digest)


def of_claim(row: Row, store: Store) -> Iterable[Key]:
    assert isinstance(row, rows.VolumeStored)
    return _users(store, row.namespace, row.digest)


def _users(store: Store, namespace: str, digest: str) -> Iterable[Key]:
    """Name the services whose pods mount the artifact, so that a volume that is lost is made again."""
    for row in store.rows("InferenceService", namespace):
        placed = (loaded(row).get("status") or {}).get("placement") or {}
        if any(names.digest_label(record["digest"]) == digest for record in placed.get("revisions") or ()):
            yield Key("InferenceService", row.namespace, row.name)
