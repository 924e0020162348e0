"""ModelApproval: the decision of one person about one set of bytes."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from modelops.api.meta import (
    Column,
    Conditions,
    Count,
    Digest,
    EnvironmentName,
    Instant,
    LabelName,
    Line,
    ListSet,
    Message,
    Names,
    Refused,
    Resource,
    Rule,
    Sentence,
    Spec,
    Status,
    Unbuilt,
    Word,
)


class Decision(StrEnum):
    """What a person decided."""

    APPROVE = "Approve"
    REJECT = "Reject"
    REVOKE = "Revoke"


class Approver(Spec):
    """The person who decided, as the API server authenticated it."""

    username: Annotated[str, Field(min_length=1, max_length=1024)]
    """Name of the user; stamped by the API server where it can, always checked."""
    uid: Annotated[str, Field(max_length=253)] | None = None
    """Unique id of the user.  Absent or empty: the way of authentication gives none."""


class ApprovalSpec(Spec):
    """One decision; it cannot be changed afterwards."""

    rules: ClassVar = (
        Rule("self == oldSelf", "a ModelApproval is immutable; create a new one"),
        Rule(
            "self.decision == 'Approve' || !has(self.expiresAt)",
            "only an approval can end by itself; leave expiresAt out",
            "FieldValueForbidden",
            ".expiresAt",
        ),
    )

    model_ref: LabelName
    """Model in the same namespace; the right to decide is given by its name."""
    version_ref: LabelName
    """ModelVersion in the same namespace."""
    decision: Decision
    """Approve, Reject or Revoke."""
    artifact_digest: Digest
    """Digest of the bytes decided about, as in the version's status.artifactDigest."""
    spec_hash: Digest
    """Hash of the spec decided about, as in the version's status.specHash."""
    environments: Annotated[tuple[EnvironmentName, ...], Field(min_length=1, max_length=16), ListSet()]
    """Environments that the decision is for; at least one."""
    expires_at: Instant | None = None
    """From when on the approval no longer counts.  Absent: as the Model's governance says."""
    reason: Sentence | None = None
    """Why, for those who read it later.  Absent: not told."""
    approver: Approver | None = None
    """Who decided.  Absent: only until the API server has stamped it."""
    attestation: Annotated[
        Unbuilt | None,
        Refused("signed approvals are not supported yet; leave attestation out and approve with kubectl"),
    ] = None
    """Signed statement of the same decision; not supported yet."""


class Trust(StrEnum):
    """Whether the decision counts."""

    TRUSTED = "Trusted"
    UNTRUSTED = "Untrusted"


class Countersign(Status):
    """The operator's mark that the gate was in force when the decision was made."""

    key_id: Word
    """Name of the key."""
    mac: Annotated[str, Field(max_length=128)]
    """HMAC-SHA256 over the uid, creation time and spec, in hexadecimal."""


class ApprovalStatus(Status):
    """What the operator makes of the decision."""

    observed_generation: Count | None = None
    """The metadata.generation that this status describes."""
    conditions: Conditions = ()
    """Ready, Reconciling and Stalled."""
    trust: Trust | None = None
    """Whether the decision counts.  Absent: not looked at yet."""
    reason: Word | None = None
    """Reason code, such as GateNotEnforced."""
    message: Message | None = None
    """Why, as one sentence."""
    countersign: Countersign | None = None
    """The operator's mark.  Absent: not trusted."""
    operator: Line | None = None
    """Version of the operator that judged.  Absent: not looked at yet."""


class ModelApproval(Resource):
    """The decision of one person about one set of bytes; create-only."""

    names: ClassVar = Names("ModelApproval", "modelapprovals", "mappr")
    columns: ClassVar = (
        Column("Version", ".spec.versionRef"),
        Column("Decision", ".spec.decision"),
        Column("Approver", ".spec.approver.username"),
        Column("Environments", ".spec.environments"),
        # As text: a date column shows a moment in the future as <invalid>.
        Column("Expires", ".spec.expiresAt"),
        Column("Trust", ".status.trust", wide=True),
        Column("Digest", ".spec.artifactDigest", wide=True),
    )
    selectable: ClassVar = (".spec.modelRef", ".spec.versionRef", ".spec.decision")

    spec: ApprovalSpec
    """The decision."""
    status: ApprovalStatus = Field(default_factory=ApprovalStatus)
    """What the operator makes of it.  Absent: not looked at yet."""
