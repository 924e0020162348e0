"""One revision as a record in status: everything its objects are rendered from, and nothing else.

What runs is rendered from its own record, so neither an edit of the service nor an upgrade of the operator
changes a pod that serves.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from modelops.api.service import ServiceSpec
from modelops.artifacts.canonical import canonical
from modelops.engines.base import Launch
from modelops.placement.fit import Placement
from modelops.serving.manifests import Images, Owner, Revision

HASHED = ("engine", "accelerator", "placement", "podTemplate")
"""Parts of the spec that make pods; scaling, traffic, policy and actions do not."""

SILENT: Mapping[str, Any] = {
    "health_timeout_seconds": 10,
    "health_period_seconds": 10,
    "startup_timeout_seconds": 5,
    "startup_period_seconds": 10,
    "ready_period_seconds": 5,
    "tells": False,
    "worker_args": (),
    "worker_pre_stop": (),
}
"""What a record means that is silent about these: those of 0.1.0 are, and their pods must not change."""


def revision_hash(spec: ServiceSpec, version: str, digest: str) -> str:
    """Return eight hex digits that name the version with the serving inputs of *spec*."""
    wire = spec.to_wire()
    inputs = {part: wire[part] for part in HASHED if part in wire}
    text = canonical({"version": version, "digest": digest, "inputs": _without_floats(inputs)})
    return hashlib.blake2b(text, digest_size=4).hexdigest()


def to_status(revision: Revision) -> dict[str, Any]:
    """Return the record in camelCase.  Law: ``from_status(to_status(r), r.owner) == r``."""
    launch = asdict(revision.launch)
    launch["drain"] = revision.launch.drain.total_seconds()
    launch = {key: value for key, value in launch.items() if key not in SILENT or value != SILENT[key]}
    record: dict[str, Any] = {
        "hash": revision.hash,
        "version": revision.version,
        "digest": revision.digest,
        "engine": revision.engine,
        "launch": {_camel(key): _plain(value) for key, value in launch.items() if value not in (None, "")},
        "placement": revision.placement.to_status(),
        "resourceName": revision.resource_name,
        "images": {
            "operator": revision.images.operator,
            "pullPolicy": revision.images.pull_policy,
            "pullSecrets": list(revision.images.pull_secrets),
        },
        "store": revision.store,
        "drainSeconds": revision.drain.total_seconds(),
        "nodeSelector": dict(revision.node_selector),
        "tolerations": list(revision.tolerations),
        "zones": list(revision.zones),
        "priorityClass": revision.priority_class,
        "labels": dict(revision.labels or {}),
        "annotations": dict(revision.annotations or {}),
        "resources": revision.resources,
    }
    return {key: value for key, value in record.items() if value not in (None, [], {}, "")}


def from_status(record: Mapping[str, Any], owner: Owner) -> Revision:
    """Return the revision that a record holds.  Raises KeyError when it is not one of ours."""
    launch = record["launch"]
    images = record["images"]
    return Revision(
        owner=owner,
        hash=record["hash"],
        version=record["version"],
        digest=record["digest"],
        engine=record["engine"],
        launch=Launch(
            image=launch["image"],
            command=tuple(launch.get("command", ())),
            args=tuple(launch.get("args", ())),
            env=dict(launch.get("env", {})),
            port=launch["port"],
            health_path=launch["healthPath"],
            ready_path=launch["readyPath"],
            startup_seconds=launch["startupSeconds"],
            shm_bytes=launch.get("shmBytes", 0),
            drain=timedelta(seconds=launch["drain"]),
            metered=launch["metered"],
            engine_metrics_path=launch.get("engineMetricsPath"),
            writable=tuple(launch.get("writable", ())),
            grpc_port=launch.get("grpcPort"),
            metrics_port=launch.get("metricsPort"),
            model_at=launch.get("modelAt", ""),
            **_later(launch),
        ),
        placement=Placement.from_status(record["placement"]),
        resource_name=record.get("resourceName", ""),
        images=Images(images["operator"], images["pullPolicy"], tuple(images.get("pullSecrets", ()))),
        store=record["store"],
        drain=timedelta(seconds=record["drainSeconds"]),
        node_selector=dict(record.get("nodeSelector", {})),
        tolerations=tuple(record.get("tolerations", ())),
        zones=tuple(record.get("zones", ())),
        priority_class=record.get("priorityClass"),
        labels=dict(record.get("labels", {})),
        annotations=dict(record.get("annotations", {})),
        resources=record.get("resources"),
    )


def _later(launch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what records of 0.1.0 do not tell."""
    return {
        name: tuple(launch.get(_camel(name), value))
        if isinstance(value, tuple)
        else launch.get(_camel(name), value)
        for name, value in SILENT.items()
    }


def read_all(records: Sequence[Mapping[str, Any]], owner: Owner) -> dict[str, Revision]:
    """Return the revisions of a status by hash."""
    return {record["hash"]: from_status(record, owner) for record in records}


def _camel(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _without_floats(value: Any) -> Any:
    """Return *value* with floats as text, since canonical JSON has none."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return {key: _without_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_floats(item) for item in value]
    return value
