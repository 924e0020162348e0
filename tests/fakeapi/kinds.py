"""Which kinds the fake API server serves, and how it merges their lists."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from modelops.api.crd import object_schema
from modelops.api.kinds import KINDS
from modelops.api.names import API_VERSION
from modelops.clients.kinds import RESOURCES, Resource

SET = ("",)
"""Marks a list of scalars that is merged as a set; other lists of keys are merged as maps."""

Names = tuple[str, ...]
"""The field names on the way to a value, without the places in lists."""

_WITHOUT_STATUS = {"ConfigMap", "Event", "Lease", "NetworkPolicy", "Secret", "ServiceAccount"}
_WITHOUT_GENERATION = _WITHOUT_STATUS - {"NetworkPolicy"} | {
    "Namespace",
    "Node",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Service",
}
# How the built-in schemas merge lists, by the name of the field.  Source: k8s.io/api, patchMergeKey.
_BUILT_IN: Mapping[str, Names] = {
    "conditions": ("type",),
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
}


@dataclass(frozen=True)
class Served:
    """One kind as the server knows it."""

    resource: Resource
    has_status: bool
    """Whether ``/status`` is a path of its own, and the main path leaves the status alone."""
    has_generation: bool
    lists: Mapping[Names, Names] = field(default_factory=dict)
    """Keys of list-maps, or `SET`, by the names on the way; kinds of a CustomResourceDefinition only."""

    @property
    def is_custom(self) -> bool:
        """Whether a CustomResourceDefinition describes it."""
        group = self.resource.api_version.rpartition("/")[0]
        return group.startswith("gateway.") or ("." in group and not group.endswith(".k8s.io"))

    def keys(self, names: Names) -> Names | None:
        """Return the keys by which the list at *names* is merged; None: it is replaced whole."""
        if names[:1] == ("metadata",):
            return {"ownerReferences": ("uid",), "finalizers": SET}.get(names[-1])
        if self.is_custom:
            return self.lists.get(names)
        if names[-1] == "ports":
            is_pod = names[-2] in ("containers", "initContainers")
            return ("containerPort", "protocol") if is_pod else ("port", "protocol")
        return None if "rules" in names else _BUILT_IN.get(names[-1])


def served() -> dict[tuple[str, str], Served]:
    """Return every kind that the operator's client knows, by (apiVersion, plural)."""
    return {
        (resource.api_version, resource.plural): Served(
            resource,
            has_status=resource.kind not in _WITHOUT_STATUS,
            has_generation=resource.kind not in _WITHOUT_GENERATION,
            lists=_own_lists().get(resource.kind, {}) if resource.api_version == API_VERSION else {},
        )
        for resource in RESOURCES
    }


@cache
def _own_lists() -> Mapping[str, Mapping[Names, Names]]:
    """Return how the lists of our own kinds are merged, by kind; making a schema takes 60 ms."""
    return {kind.names.kind: dict(_lists(object_schema(kind), ())) for kind in KINDS}


def custom(resource: Resource) -> Served:
    """Return a kind of somebody else's CustomResourceDefinition: conditions merge by type."""
    return Served(resource, has_status=True, has_generation=True, lists={("status", "conditions"): ("type",)})


def _lists(schema: Mapping[str, Any], names: Names) -> Iterator[tuple[Names, Names]]:
    """Yield the list types of a structural schema."""
    match schema.get("x-kubernetes-list-type"):
        case "map":
            yield names, tuple(schema["x-kubernetes-list-map-keys"])
        case "set":
            yield names, SET
    for name, inner in (schema.get("properties") or {}).items():
        yield from _lists(inner, (*names, name))
    if "items" in schema:
        yield from _lists(schema["items"], names)
