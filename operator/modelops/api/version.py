"""ModelVersion: one immutable set of bytes, by its content digest."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from modelops.api.meta import (
    AuditHead,
    Column,
    Conditions,
    Count,
    Digest,
    EnvironmentName,
    History,
    Instant,
    LabelName,
    Line,
    ListMap,
    ListSet,
    MeasuredCache,
    Message,
    Names,
    ObjectName,
    Refused,
    Resource,
    Rule,
    Spec,
    Status,
    Unbuilt,
    UsedBy,
    Word,
)
from modelops.api.model import Format

Glob = Annotated[str, Field(min_length=1, max_length=256)]


class HuggingFace(Spec):
    """A repository of the Hugging Face Hub, or of a server that speaks its protocol."""

    repo: Annotated[
        str,
        Field(
            max_length=193, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$"
        ),
    ]
    """Repository, as owner/name."""
    revision: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Commit, tag or branch; anything but a commit is resolved once and pinned.  Absent: main."""
    endpoint: Annotated[str, Field(max_length=512, pattern=r"^https?://[^/@\s]+(/[^\s@?#]*)?$")] | None = None
    """Address of the hub; its host must be one that the administrator allows.  Absent: https://huggingface.co."""
    allow_patterns: Annotated[tuple[Glob, ...], Field(min_length=1, max_length=32), ListSet()] | None = None
    """Files to take, as shell patterns.  Absent: all."""
    ignore_patterns: Annotated[tuple[Glob, ...], Field(min_length=1, max_length=32), ListSet()] | None = None
    """Files to leave, as shell patterns; they win over allowPatterns.  Absent: none."""


_SOURCES = ("huggingFace", "oci", "s3", "pvc", "http", "mlflow")
_ONLY_HUB = "sources are not supported yet; put the files into a Hugging Face repository and use huggingFace"


class Source(Spec):
    """Where the bytes come from; exactly one of the fields."""

    rules: ClassVar = (
        Rule(
            f"[{', '.join(f'has(self.{name})' for name in _SOURCES)}].filter(is_set, is_set).size() == 1",
            "a version has exactly one source; set huggingFace and nothing beside it",
        ),
    )

    hugging_face: HuggingFace | None = None
    """A repository of the Hugging Face Hub, or of a server that speaks its protocol."""
    oci: Annotated[Unbuilt | None, Refused(f"OCI {_ONLY_HUB}")] = None
    """An OCI artifact; not supported yet."""
    s3: Annotated[Unbuilt | None, Refused(f"S3 {_ONLY_HUB}")] = None
    """A prefix in an S3 bucket; not supported yet."""
    pvc: Annotated[Unbuilt | None, Refused(f"volume {_ONLY_HUB}")] = None
    """A folder in a PersistentVolumeClaim; not supported yet."""
    http: Annotated[Unbuilt | None, Refused(f"HTTP {_ONLY_HUB}")] = None
    """A file behind an address; not supported yet."""
    mlflow: Annotated[Unbuilt | None, Refused(f"MLflow {_ONLY_HUB}")] = None
    """A model of an MLflow registry; not supported yet."""


class DerivedFrom(Spec):
    """The version that this one was made from."""

    version_ref: LabelName
    """ModelVersion in the same namespace."""
    method: Line | None = None
    """How it was made, such as quantization or fine-tuning.  Absent: not told."""


class Experiment(Spec):
    """The training run that produced the bytes."""

    system: Line
    """Tracking system, such as MLflow."""
    uri: Annotated[str, Field(max_length=2048)] | None = None
    """Address of the run, for people; it is never called.  Absent: not told."""
    run_id: Line | None = None
    """Name of the run in that system.  Absent: not told."""


class Lineage(Spec):
    """What the version was made of; kept as it is and shown to approvers."""

    datasets: Annotated[tuple[Annotated[str, Field(max_length=512)], ...], Field(max_length=64)] | None = None
    """Data sets that it was trained on.  Absent: not told."""
    code: Annotated[str, Field(max_length=2048)] | None = None
    """Commit of the training code.  Absent: not told."""
    experiment: Experiment | None = None
    """Training run.  Absent: not told."""
    author: Line | None = None
    """User who trained it, who may not approve it where duties are separated.  Absent: the creator alone."""


class SchemaField(Spec):
    """One input or output of a predictive model."""

    name: Line
    """Name of the feature."""
    dtype: Line
    """Type of the values, such as float or string."""
    unit: Line | None = None
    """Unit of the values.  Absent: none."""
    nullable: bool | None = None
    """Whether a value may be missing.  Absent: false."""
    min: Line | None = None
    """Smallest valid value, written as text.  Absent: no bound."""
    max: Line | None = None
    """Largest valid value, written as text.  Absent: no bound."""


SchemaFields = Annotated[tuple[SchemaField, ...], Field(max_length=256), ListMap(("name",))]


class Schema(Spec):
    """Inputs and outputs of a predictive model; kept as it is."""

    inputs: SchemaFields | None = None
    """Features that go in.  Absent: not told."""
    outputs: SchemaFields | None = None
    """Values that come out.  Absent: not told."""


class Lifecycle(StrEnum):
    """How far the life of a version has gone."""

    ACTIVE = "Active"
    DEPRECATED = "Deprecated"
    ARCHIVED = "Archived"
    REVOKED = "Revoked"


_STAGES = f"{{{', '.join(f'{stage.value!r}: {i}' for i, stage in enumerate(Lifecycle))}}}"
_STAGE = "has({0}.lifecycle) ? {0}.lifecycle : 'Active'"
_SAME = "has(self.{0}) == has(oldSelf.{0}) && (!has(self.{0}) || self.{0} == oldSelf.{0})"
_FROZEN = (
    "modelRef", "version", "source", "authSecretRef", "format", "derivedFrom", "lineage", "schema",
    "card", "createdBy",
)  # fmt: skip


class AuthSecretRef(Spec):
    """A Secret with the token for a private source."""

    name: ObjectName
    """Secret in the same namespace, labelled modelops.dev/delivery: "true", with the key token."""


class VersionSpec(Spec):
    """Which bytes this version is, and where they came from."""

    rules: ClassVar = (
        *(
            Rule(
                _SAME.format(name),
                f"{name} of a ModelVersion is immutable; create a new ModelVersion",
                path=f".{name}",
            )
            for name in _FROZEN
        ),
        Rule(
            f"{_STAGES}[{_STAGE.format('self')}] >= {_STAGES}[{_STAGE.format('oldSelf')}]",
            "lifecycle only goes forward, Active, Deprecated, Archived, Revoked; create a new ModelVersion",
            path=".lifecycle",
        ),
    )

    model_ref: LabelName
    """Model in the same namespace that this is a version of."""
    version: Word
    """Label for people, such as 7 or 2026-03."""
    source: Source
    """Where the bytes come from."""
    auth_secret_ref: AuthSecretRef | None = None
    """Secret with the token for a private source.  Absent: no token is sent."""
    format: Format | None = None
    """Format that the files must have; another one is refused.  Absent: found out from the files."""
    adapter: Annotated[
        Unbuilt | None,
        Refused(
            "LoRA adapters are not supported yet; merge the adapter into its base and register that version"
        ),
    ] = None
    """LoRA adapter for another version; not supported yet."""
    derived_from: DerivedFrom | None = None
    """Version that this one was made from.  Absent: not told."""
    lineage: Lineage | None = None
    """What the version was made of.  Absent: not told."""
    schema_: Annotated[Schema | None, Field(alias="schema")] = None
    """Inputs and outputs of a predictive model.  Absent: not told."""
    card: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=32)] | None = None
    """Model card, as texts by heading; kept as it is and shown to approvers.  Absent: none."""
    lifecycle: Lifecycle | None = None
    """How far its life has gone; only forward.  Absent: Active."""
    created_by: Annotated[str, Field(max_length=1024)] | None = None
    """User who created it, stamped by the API server.  Absent: the server does not stamp."""


class VersionPhase(StrEnum):
    """Where a version stands, in one word for people."""

    RESOLVING = "Resolving"
    VERIFYING = "Verifying"
    EVALUATING = "Evaluating"
    PENDING_APPROVAL = "PendingApproval"
    APPROVED = "Approved"
    READY = "Ready"
    DEPRECATED = "Deprecated"
    ARCHIVED = "Archived"
    FAILED = "Failed"
    QUARANTINED = "Quarantined"
    EVALUATION_FAILED = "EvaluationFailed"
    REJECTED = "Rejected"
    EXPIRED = "Expired"
    REVOKED = "Revoked"


class Resolved(Status):
    """Facts about the bytes, read from the files and never guessed."""

    uri: Annotated[str, Field(max_length=2048)] | None = None
    """Where the bytes are, with the commit, such as hf://owner/name@commit."""
    revision: Line | None = None
    """Commit to which the source was pinned."""
    files: Count | None = None
    """Number of files."""
    bytes: Count | None = None
    """Size of all files, in bytes."""
    format: Format | None = None
    """How the weights are stored."""
    license: Line | None = None
    """Licence that the repository names.  Absent: it names none."""
    gated: bool | None = None
    """Whether the repository gives its files to accepted users only."""
    remote_code: bool | None = None
    """Whether the repository brings code that an engine would have to run."""
    pickle: bool | None = None
    """Whether a file can run code when it is loaded."""
    architecture: Line | None = None
    """Architecture as the files name it, such as llama.  Absent: unknown."""
    parameters: Count | None = None
    """Number of parameters.  Absent: unknown."""
    quantization: Line | None = None
    """Quantization of the weights, such as Q4_K_M.  Absent: none or unknown."""
    context_tokens: Count | None = None
    """Longest context that the model was made for, in tokens.  Absent: unknown."""
    layers: Count | None = None
    """Number of layers.  Absent: unknown."""
    hidden_size: Count | None = None
    """Width of the model.  Absent: unknown."""
    attention_heads: Count | None = None
    """Number of query heads.  Absent: unknown."""
    kv_heads: Count | None = None
    """Number of key-value heads.  Absent: unknown."""
    head_dim: Count | None = None
    """Width of one head.  Absent: unknown."""
    vocabulary: Count | None = None
    """Number of tokens in the vocabulary.  Absent: unknown."""
    sliding_window: Count | None = None
    """Attention window, in tokens.  Absent: full attention or unknown."""
    attention: Annotated[str, Field(max_length=1024)] | None = None
    """What decides on the cache of each layer, as JSON with the names of config.json; layer kinds are one
    letter each: F full, S sliding, C chunked, L linear, N none.  Absent: every layer counts as full."""
    weights_bytes: Count | None = None
    """Size of the weights, in bytes.  Absent: unknown."""
    main_file: Annotated[str, Field(max_length=1024)] | None = None
    """File that the engine is told to load.  Absent: the folder."""
    provenance: Annotated[dict[str, Line], Field(max_length=64)] | None = None
    """Where each of these facts was read, by field."""


class CachePhase(StrEnum):
    """How far a node has got with the files."""

    WANTED = "Wanted"
    FETCHING = "Fetching"
    READY = "Ready"
    FAILED = "Failed"


class CacheNode(Status):
    """The files on one node."""

    name: ObjectName
    """Name of the node."""
    phase: CachePhase
    """Wanted, Fetching, Ready (every byte verified) or Failed."""
    bytes: Count | None = None
    """Bytes that are there.  Absent: none."""
    total_bytes: Count | None = None
    """Bytes that are to be there.  Absent: not known yet."""
    message: Message | None = None
    """What went wrong and what to do.  Absent: nothing."""


class Cache(Status):
    """The files on the nodes."""

    nodes: Annotated[tuple[CacheNode, ...], Field(max_length=1000), ListMap(("name",))] = ()
    """Nodes that hold the files or are to hold them."""


class IgnoredApproval(Status):
    """An approval that does not count."""

    name: ObjectName
    """Name of the ModelApproval."""
    reason: Word
    """Reason code, such as OwnVersion or Expired."""
    message: Message
    """Why, and what to do, as one sentence."""


class EnvironmentApproval(Status):
    """Whether the version may run in one environment."""

    name: EnvironmentName
    """Environment, as in the namespace label modelops.dev/environment."""
    approved: bool
    """Whether enough people approved these very bytes."""
    have: Count | None = None
    """Approvals that count."""
    needed: Count | None = None
    """Approvals that are needed."""
    approvers: Annotated[tuple[Annotated[str, Field(max_length=1024)], ...], Field(max_length=20)] = ()
    """Users whose approvals count."""
    ignored: Annotated[tuple[IgnoredApproval, ...], Field(max_length=10)] = ()
    """The last ten approvals that do not count, with the reason."""
    expires_at: Instant | None = None
    """When the first of the needed approvals ends.  Absent: none ends, or not approved."""
    reason: Word | None = None
    """Reason code, such as ApprovalMissing."""
    message: Message | None = None
    """Why, as one sentence."""


class VersionApproval(Status):
    """The decisions of people about this version."""

    environments: Annotated[tuple[EnvironmentApproval, ...], Field(max_length=16), ListMap(("name",))] = ()
    """Decision by environment."""


class VersionStatus(Status):
    """What the operator found out about the version."""

    observed_generation: Count | None = None
    """The metadata.generation that this status describes."""
    conditions: Conditions = ()
    """Resolved, IntegrityVerified, ScanPassed, PolicyPassed, EvaluationPassed, Approved, Ready and more."""
    phase: VersionPhase | None = None
    """Where the version stands, in one word for people."""
    resolved: Resolved | None = None
    """Facts about the bytes.  Absent: not resolved yet."""
    artifact_digest: Digest | None = None
    """Digest of all files, as sha256sum prints it over their sorted checksums.  Absent: not resolved yet."""
    spec_hash: Digest | None = None
    """Digest of the spec without lifecycle and createdBy; approvals name it.  Absent: not looked at yet."""
    size: Word | None = None
    """Size of all files, for people."""
    cache: Cache | None = None
    """The files on the nodes."""
    measured: Annotated[tuple[MeasuredCache, ...], Field(max_length=10)] = ()
    """What engines reported of their caches when they served this version, the last ten; the next plan of
    the same kind reckons with it.  Absent: none did."""
    used_by: Annotated[tuple[UsedBy, ...], Field(max_length=100)] = ()
    """Services that run or want this version, at most 100."""
    used_by_count: Count | None = None
    """Number of services that run or want this version."""
    approval: VersionApproval | None = None
    """The decisions of people about this version."""
    history: History = ()
    """The last 20 decisions about this version, oldest first."""
    audit: AuditHead | None = None
    """End of the audit chain.  Absent: nothing recorded yet."""


class ModelVersion(Resource):
    """One immutable set of bytes of a model, known by its content digest."""

    names: ClassVar = Names("ModelVersion", "modelversions", "mver")
    rules: ClassVar = (
        Rule(
            "size(self.metadata.name) <= 63",
            "a ModelVersion's name is a label value of at most 63 letters; choose a shorter name",
        ),
    )
    columns: ClassVar = (
        Column("Model", ".spec.modelRef"),
        Column("Version", ".spec.version"),
        Column("Phase", ".status.phase"),
        Column("Format", ".status.resolved.format"),
        Column("Size", ".status.size"),
        Column("Used-By", ".status.usedByCount", "integer"),
        Column("Digest", ".status.artifactDigest", wide=True),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', wide=True),
    )
    selectable: ClassVar = (".spec.modelRef", ".spec.lifecycle")

    spec: VersionSpec
    """Which bytes this version is."""
    status: VersionStatus = Field(default_factory=VersionStatus)
    """What the operator found out.  Absent: not looked at yet."""
