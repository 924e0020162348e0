"""What is remembered of each kind that is watched: small rows, read once per event."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from sys import intern
from typing import Any

from modelops.api import names
from modelops.controllers.store import OwnRow, Row
from modelops.placement.inventory import ModelNodeRow, NodeRow, PodUse
from modelops.plan import Manifest
from modelops.registry.snapshot import CacheRow
from modelops.serving.snapshot import Exit

ENGINE = "engine"
"""Name of the container that runs the model."""
JOB_NAME = "batch.kubernetes.io/job-name"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStored(Row):
    """A Node, as the inventory reads it."""

    node: NodeRow


def node(obj: Manifest) -> NodeStored:
    return NodeStored.of(obj, node=NodeRow.read(obj))


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceStored(Row):
    """A Namespace: which environment it is."""

    environment: str


def namespace(obj: Manifest) -> NamespaceStored:
    labels = obj["metadata"].get("labels") or {}
    return NamespaceStored.of(obj, environment=labels.get(names.ENVIRONMENT) or names.DEFAULT_ENVIRONMENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodStored(Row):
    """A pod: what it takes of its node, and for ours how it does."""

    takes: Mapping[str, int] | None = None
    """What it takes of its node.  None: nothing that is planned but memory, or it has no node."""
    service: str = ""
    revision: str = ""
    version: str = ""
    digest: str = ""
    job: str = ""
    evaluates: str = ""
    """Service whose candidate the pod's Job judges."""
    node: str = ""
    is_ready: bool = False
    is_worker: bool = False
    """Of a group that another pod leads."""
    is_terminating: bool = False
    is_finished: bool = False
    restarts: int = 0
    pending: str = ""
    last_exit: Exit | None = None
    last_words: str = ""
    """Termination message of a Job's container; empty for all other pods."""

    @property
    def use(self) -> PodUse | None:
        """What it takes, as the inventory wants it; None once it has ended."""
        return None if self.takes is None or self.is_finished else PodUse(self.node, self.takes)


def pod(obj: Manifest) -> PodStored:
    """Return the row of a pod; of foreign pods only what they take of their node is kept."""
    meta, status = obj["metadata"], obj.get("status") or {}
    labels = meta.get("labels") or {}
    use = PodUse.read(obj)
    takes = _shared(use.requests) if use and any("/" in name for name in use.requests) else None
    node = intern((obj.get("spec") or {}).get("nodeName") or "")
    if labels.get(names.MANAGED_BY) != names.MANAGED_BY_VALUE:
        return PodStored.of(obj, takes=takes, node=node if takes else "")
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    job = labels.get(JOB_NAME, "")
    return PodStored.of(
        obj,
        takes=takes,
        service=intern(labels.get(names.SERVICE, "")),
        revision=intern(labels.get(names.REVISION, "")),
        version=intern(labels.get(names.VERSION_LABEL, "")),
        digest=intern(labels.get(names.DIGEST, "")),
        job=job,
        evaluates=intern(labels.get(names.EVALUATES, "")),
        node=node,
        is_ready=_is_true(status, "Ready"),
        is_worker=labels.get(names.GROUP_INDEX, "0") != "0",
        is_terminating=bool(meta.get("deletionTimestamp")),
        is_finished=status.get("phase") in ("Succeeded", "Failed"),
        restarts=sum(c.get("restartCount", 0) for c in containers),
        pending=_pending(status, containers),
        last_exit=_last_exit(
            containers, was_ready=_was_ready(status), serves=bool(labels.get(names.REVISION))
        ),
        last_words=_last_words(containers) if job else "",
    )


def _shared(requests: Mapping[str, int]) -> Mapping[str, int]:
    """Return one mapping for all pods that ask for the same: there are few kinds of them."""
    return _asked(tuple(sorted(requests.items())))


@lru_cache(maxsize=1024)
def _asked(requests: tuple[tuple[str, int], ...]) -> Mapping[str, int]:
    return dict(requests)


def _is_true(status: Mapping[str, Any], condition: str) -> bool:
    return any(c["type"] == condition and c["status"] == "True" for c in status.get("conditions") or ())


def _pending(status: Mapping[str, Any], containers: Iterable[Mapping[str, Any]]) -> str:
    """Return why the pod does not run, in the words of the scheduler or the kubelet."""
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"{condition.get('reason', '')}: {condition.get('message', '')}"[:512]
    for container in containers:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
            text = waiting.get("message") or ""
            return f"{container['name']}: {waiting['reason']} {text}".strip()[:512]
    return ""


def _was_ready(status: Mapping[str, Any]) -> bool:
    """Say whether the pod may have answered anybody; where nothing tells, it may.

    The kubelet first says unready in the second in which the pod starts; each later time is a change.
    """
    ready: Mapping[str, Any] = next((c for c in status.get("conditions") or () if c["type"] == "Ready"), {})
    since, start = ready.get("lastTransitionTime"), status.get("startTime")
    if ready.get("status") != "False" or not since or not start:
        return True
    return datetime.fromisoformat(since) - datetime.fromisoformat(start) > timedelta(seconds=1)


def _last_exit(containers: Iterable[Mapping[str, Any]], *, was_ready: bool, serves: bool) -> Exit | None:
    """Return how a container ended that should run on.

    Its log is kept only when the pod never answered anybody: a later one may hold prompts.  An engine that
    ends by itself before it was ready has failed, whatever its code says.
    """
    for container in containers:
        state, last = container.get("state") or {}, container.get("lastState") or {}
        ended = state.get("terminated") or last.get("terminated")
        if not ended or container.get("ready"):
            continue
        gave_up = serves and not was_ready and container["name"] == ENGINE
        if ended.get("exitCode") or gave_up:
            tail = "" if was_ready else str(ended.get("message") or "")
            return Exit(ended.get("reason") or "Error", int(ended.get("exitCode") or 0), log_tail=tail)
    return None


def _last_words(containers: Iterable[Mapping[str, Any]]) -> str:
    for container in containers:
        ended = (container.get("state") or {}).get("terminated")
        if ended and ended.get("exitCode") == 0:
            return str(ended.get("message") or "")
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildStored(Row):
    """A child of a service that is known by its revision."""

    service: str
    revision: str
    replicas: int = -1
    """Wanted pods of a Deployment; -1 for other kinds."""
    role: str = ""
    version: str = ""
    selected: str = ""
    """Revision whose pods a Service selects; empty for other kinds, and for one that selects all."""


def child(obj: Manifest) -> ChildStored:
    labels = obj["metadata"].get("labels") or {}
    return ChildStored.of(
        obj,
        service=intern(labels.get(names.SERVICE, "")),
        revision=intern(labels.get(names.REVISION, "")),
        replicas=(obj.get("spec") or {}).get("replicas", -1) if obj.get("kind") in names.WORKLOADS else -1,
        role=intern(labels.get(names.ROLE, "")),
        version=intern(labels.get(names.VERSION_LABEL, "")),
        selected=intern(_selected(obj)),
    )


def _selected(obj: Manifest) -> str:
    if obj.get("kind") != "Service":
        return ""
    selector = (obj.get("spec") or {}).get("selector") or {}
    return str(selector.get(names.REVISION, ""))


def child_drifted(row: Row, wanted: Manifest) -> bool:
    """Say whether somebody scaled a Deployment of ours, or turned a Service to other pods."""
    assert isinstance(row, ChildStored)
    replicas = (wanted.get("spec") or {}).get("replicas")
    is_scaled = row.replicas >= 0 and replicas is not None and row.replicas != replicas
    return is_scaled or row.selected != _selected(wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStored(Row):
    """A Job that pins a version, or that evaluates the candidate of a service."""

    version: str
    service: str
    is_done: bool
    is_failed: bool
    fault: str
    ended_at: datetime | None


def job(obj: Manifest) -> JobStored:
    labels = obj["metadata"].get("labels") or {}
    status = obj.get("status") or {}
    failed = next(
        (c for c in status.get("conditions") or () if c["type"] == "Failed" and c["status"] == "True"), None
    )
    done = _is_true(status, "Complete")
    ended = status.get("completionTime") or (failed or {}).get("lastTransitionTime")
    return JobStored.of(
        obj,
        version=labels.get(names.VERSION_LABEL, ""),
        service=labels.get(names.EVALUATES, ""),
        is_done=done,
        is_failed=failed is not None,
        fault=f"{failed.get('reason', '')}: {failed.get('message', '')}" if failed else "",
        ended_at=datetime.fromisoformat(ended) if ended else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeStored(Row):
    """A PersistentVolume of ours, or its claim."""

    digest: str
    claim_namespace: str = ""
    claim: str = ""
    phase: str = ""


def volume(obj: Manifest) -> VolumeStored:
    reference = (obj.get("spec") or {}).get("claimRef") or {}
    labels = obj["metadata"].get("labels") or {}
    return VolumeStored.of(
        obj,
        digest=labels.get(names.DIGEST, ""),
        claim_namespace=reference.get("namespace", ""),
        claim=reference.get("name", ""),
        phase=(obj.get("status") or {}).get("phase", ""),
    )


def claim(obj: Manifest) -> VolumeStored:
    labels = obj["metadata"].get("labels") or {}
    return VolumeStored.of(
        obj, digest=labels.get(names.DIGEST, ""), claim=(obj.get("spec") or {}).get("volumeName", "")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNodeStored(Row):
    """What the agents of one node report."""

    gpus: ModelNodeRow | None
    cache: Mapping[str, CacheRow] = field(default_factory=dict)
    """By artifact digest."""


def model_node(obj: Manifest) -> ModelNodeStored:
    name = obj["metadata"]["name"]
    entries = (obj.get("status") or {}).get("cache") or ()
    return ModelNodeStored.of(
        obj,
        gpus=ModelNodeRow.read(obj),
        cache={
            entry["digest"]: CacheRow(
                name,
                entry.get("phase", ""),
                entry.get("bytes", 0),
                entry.get("totalBytes", 0),
                entry.get("message", ""),
            )
            for entry in entries
        },
    )


def loaded(row: Row) -> Manifest:
    """Return the whole object of an own kind."""
    assert isinstance(row, OwnRow)
    return dict(json.loads(row.json))
