"""What the decisions about Models, versions and approvals look at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelops.api.approval import ModelApproval
from modelops.api.model import Model
from modelops.api.policy import RolloutPolicy
from modelops.api.version import ModelVersion
from modelops.governance.approvals import Approval
from modelops.governance.countersign import GateState
from modelops.governance.requirements import Requirement
from modelops.placement.learned import Learned
from modelops.plan import Reason


@dataclass(frozen=True, slots=True)
class JobRow:
    """A resolve Job and the last words of its pod that ended well."""

    name: str
    uid: str
    is_done: bool = False
    is_failed: bool = False
    message: str = ""
    """Empty: nothing was said, or the pod is not seen yet."""
    fault: str = ""
    """What the kubelet or the Job controller says is wrong, if anything."""
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CacheRow:
    """What the delivery agent of one node says about one artifact."""

    node: str
    phase: str
    """Fetching, Ready or Failed."""
    bytes: int = 0
    total_bytes: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who uses a version."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class VersionSnapshot:
    """One ModelVersion and what concerns it."""

    version: ModelVersion
    status: Mapping[str, Any]
    """The stored status, as it is on the wire."""
    spec_hash: str
    model: Model | None
    environment: str
    requirement: Requirement
    authors: frozenset[str] = frozenset()
    approvals: tuple[Approval, ...] = ()
    job: JobRow | None = None
    wanted_on: tuple[str, ...] = ()
    """Nodes that should have the artifact, sorted."""
    cache: tuple[CacheRow, ...] = ()
    used_by: tuple[User, ...] = ()
    measured: tuple[Learned, ...] = ()
    """What services say that engines reported which serve it."""
    image: str = ""
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    default_endpoint: str = "https://huggingface.co"
    refused: Reason | None = None
    """What the server said no to when the last plan was carried out."""


@dataclass(frozen=True, slots=True)
class ModelSnapshot:
    """One Model and its versions."""

    model: Model
    status: Mapping[str, Any]
    versions: tuple[ModelVersion, ...] = ()
    approved: tuple[str, ...] = ()
    """Names of the versions that are approved where this namespace is."""
    users: int = 0
    """How many services run one of the versions."""


@dataclass(frozen=True, slots=True)
class ApprovalSnapshot:
    """One ModelApproval and the state of the gate."""

    approval: ModelApproval
    status: Mapping[str, Any]
    spec_sha256: str
    created_at: datetime
    created_text: str
    gate: GateState = field(default_factory=GateState)
    keys: Mapping[str, bytes] = field(default_factory=dict)
    """Keys of the gate by key id; never printed."""
    key_id: str = ""
    """Which key signs new records."""


@dataclass(frozen=True, slots=True)
class PolicySnapshot:
    """One RolloutPolicy and who names it."""

    policy: RolloutPolicy
    status: Mapping[str, Any]
    fault: str
    """What is wrong with it, with the path of the field; empty: nothing."""
    users: int = 0
