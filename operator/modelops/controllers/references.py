"""Which objects concern which: the indexes of the store, and the keys to plan again after a change."""

from collections.abc import Iterable

from modelops.controllers import own_rows, route_rows, rows
from modelops.controllers.context import BY_DIGEST, BY_VERSION
from modelops.controllers.store import Key, Row, Store

BY_MODEL = "model"
BY_ALIAS = "alias"
BY_POLICY = "policy"
DEFAULT = "default"
WAITING = "waiting"
RUNNING = "running"
UNMEASURED = "unmeasured"
BY_SERVICE = "service"
BY_LENT = "lent"
"""Routes of users by the service that they have to do with."""
YES = "yes"


# --- indexes -----------------------------------------------------------------------------------------


def services_by_version(row: Row) -> Iterable[str]:
    assert isinstance(row, own_rows.ServiceRow)
    return (f"{row.namespace}/{name}" for name in row.versions)


def services_by_alias(row: Row) -> Iterable[str]:
    assert isinstance(row, own_rows.ServiceRow)
    return (f"{row.namespace}/{row.model}",) if row.model else ()


def services_by_policy(row: Row) -> Iterable[str]:
    assert isinstance(row, own_rows.ServiceRow)
    return (f"{row.namespace}/{row.policy}",)


def services_by_digest(row: Row) -> Iterable[str]:
    assert isinstance(row, own_rows.ServiceRow)
    return (f"{row.namespace}/{digest}" for digest in row.digests)


def services_waiting(row: Row) -> Iterable[str]:
    assert isinstance(row, own_rows.ServiceRow)
    return (YES,) if row.is_waiting else ()


def services_running(row: Row) -> Iterable[str]:
    assert isinstance(row, own_rows.ServiceRow)
    return (YES,) if row.has_run else ()


def services_unmeasured(row: Row) -> Iterable[str]:
    assert isinstance(row, own_rows.ServiceRow)
    return (YES,) if row.is_unmeasured else ()


def versions_by_model(row: Row) -> Iterable[str]:
    assert isinstance(row, own_rows.VersionRow)
    return (f"{row.namespace}/{row.model}",)


def versions_by_digest(row: Row) -> Iterable[str]:
    assert isinstance(row, own_rows.VersionRow)
    return (row.digest,) if row.digest else ()


def approvals_by_version(row: Row) -> Iterable[str]:
    assert isinstance(row, own_rows.ApprovalRow)
    return (f"{row.namespace}/{row.version}",)


def default_policies(row: Row) -> Iterable[str]:
    assert isinstance(row, own_rows.PolicyRow)
    return (row.namespace,) if row.is_default else ()


def pods_by_service(row: Row) -> Iterable[str]:
    assert isinstance(row, rows.PodStored)
    return (f"{row.namespace}/{row.service}",) if row.service else ()


def nodes_by_digest(row: Row) -> Iterable[str]:
    assert isinstance(row, rows.ModelNodeStored)
    return row.cache


# --- what others see of a row ------------------------------------------------------------------------


def shown_of_service(row: Row) -> object:
    """Return what versions and policies read of a service: who uses them, and where."""
    assert isinstance(row, own_rows.ServiceRow)
    return row.versions, row.places, row.policy, row.measured


def room_of_pod(row: Row) -> object:
    """Return what a pod takes of the room on the nodes."""
    assert isinstance(row, rows.PodStored)
    return row.use


def room_of_node(row: Row) -> object:
    assert isinstance(row, rows.NodeStored)
    return row.node


def room_of_model_node(row: Row) -> object:
    assert isinstance(row, rows.ModelNodeStored)
    return row.gpus


# --- keys --------------------------------------------------------------------------------------------


def _services(store: Store, index: str, value: str) -> Iterable[Key]:
    return (
        Key("InferenceService", row.namespace, row.name)
        for row in store.find("InferenceService", index, value)
    )


def waiting(store: Store) -> Iterable[Key]:
    """Name the services that wait for room."""
    return _services(store, WAITING, YES)


def of_service(row: Row, store: Store) -> Iterable[Key]:
    assert isinstance(row, own_rows.ServiceRow)
    yield Key("InferenceService", row.namespace, row.name)
    yield from (Key("ModelVersion", row.namespace, name) for name in row.versions)
    if row.policy:
        yield Key("RolloutPolicy", row.namespace, row.policy)
    else:
        for found in store.find("RolloutPolicy", DEFAULT, row.namespace):
            yield Key("RolloutPolicy", found.namespace, found.name)


def of_version(row: Row, store: Store) -> Iterable[Key]:
    assert isinstance(row, own_rows.VersionRow)
    yield Key("ModelVersion", row.namespace, row.name)
    if row.model:
        yield Key("Model", row.namespace, row.model)
        yield from _services(store, BY_ALIAS, f"{row.namespace}/{row.model}")
    yield from _services(store, BY_VERSION, f"{row.namespace}/{row.name}")


def of_model(row: Row, store: Store) -> Iterable[Key]:
    yield Key("Model", row.namespace, row.name)
    place = f"{row.namespace}/{row.name}"
    for version in store.find("ModelVersion", BY_MODEL, place):
        yield Key("ModelVersion", version.namespace, version.name)
        yield from _services(store, BY_VERSION, f"{version.namespace}/{version.name}")
    yield from _services(store, BY_ALIAS, place)


def of_approval(row: Row, store: Store) -> Iterable[Key]:
    assert isinstance(row, own_rows.ApprovalRow)
    yield Key("ModelApproval", row.namespace, row.name)
    if row.version:
        yield Key("ModelVersion", row.namespace, row.version)
        yield from _services(store, BY_VERSION, f"{row.namespace}/{row.version}")


def of_policy(row: Row, store: Store) -> Iterable[Key]:
    yield Key("RolloutPolicy", row.namespace, row.name)
    yield from _services(store, BY_POLICY, f"{row.namespace}/{row.name}")
    yield from _services(store, BY_POLICY, f"{row.namespace}/")


def of_namespace(row: Row, store: Store) -> Iterable[Key]:
    for kind in ("ModelVersion", "InferenceService"):
        yield from (Key(kind, found.namespace, found.name) for found in store.rows(kind, row.name))


def of_node(row: Row, store: Store) -> Iterable[Key]:
    """Name nobody: who waits for room is told of it apart."""
    return ()


def of_pod(row: Row, store: Store) -> Iterable[Key]:
    assert isinstance(row, rows.PodStored)
    if row.service:
        yield Key("InferenceService", row.namespace, row.service)
    if row.job and row.version:
        yield Key("ModelVersion", row.namespace, row.version)
    if row.evaluates:
        yield Key("InferenceService", row.namespace, row.evaluates)


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


def of_volume(row: Row, store: Store) -> Iterable[Key]:
    """Name the services whose pods mount the artifact, so that a volume that is lost is made again."""
    assert isinstance(row, rows.VolumeStored)
    return _services(store, BY_DIGEST, f"{row.claim_namespace}/{row.digest}")


def of_claim(row: Row, store: Store) -> Iterable[Key]:
    assert isinstance(row, rows.VolumeStored)
    return _services(store, BY_DIGEST, f"{row.namespace}/{row.digest}")
