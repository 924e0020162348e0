"""Model: what the organisation knows about a model, and what must be true before it may run."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from modelops.api.meta import (
    AuditHead,
    Column,
    Conditions,
    Count,
    EnvironmentName,
    History,
    LabelName,
    Line,
    ListSet,
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
from modelops.api.quantities import LongDuration


class ModelType(StrEnum):
    """The family of a model."""

    LLM = "LLM"
    EMBEDDING = "Embedding"
    RERANKER = "Reranker"
    PREDICTIVE = "Predictive"
    GRAPH = "Graph"
    DECISION = "Decision"
    ANALYTICS = "Analytics"
    CUSTOM = "Custom"


class RiskTier(StrEnum):
    """How much harm a wrong answer can do."""

    MINIMAL = "Minimal"
    LIMITED = "Limited"
    HIGH = "High"


class Format(StrEnum):
    """How the weights are stored."""

    GGUF = "GGUF"
    SAFETENSORS = "safetensors"
    ONNX = "ONNX"
    SKOPS = "skops"
    RULES = "rules-json"
    XGBOOST = "XGBoost"
    LIGHTGBM = "LightGBM"
    TRITON = "Triton"
    PICKLE = "pickle"
    OTHER = "Other"


class Owner(Spec):
    """Who answers for the model."""

    team: Line
    """Team that owns the model."""
    contact: Line | None = None
    """Address of the team, for people on call.  Absent: none known."""


class Business(Spec):
    """Why the organisation has the model."""

    use_case: Sentence | None = None
    """What the model is used for, in plain words.  Absent: not told."""
    kpi: Line | None = None
    """Business figure that the model should move.  Absent: none."""


class Approvals(Spec):
    """How many people must approve a version, and which ones count."""

    required: Annotated[int, Field(ge=0, le=10)] | None = None
    """Number of different approvers that each environment needs.  Absent: 1."""
    separation_of_duties: bool | None = None
    """Whether the author of a version may not be one of its approvers.  Absent: true."""
    environments: (
        Annotated[tuple[EnvironmentName, ...], Field(min_length=1, max_length=16), ListSet()] | None
    ) = None
    """Environments in which approval is needed.  Absent: all of them."""
    validity: Annotated[
        LongDuration | None,
        Rule(
            "self.endsWith('d') ? !self.startsWith('0') : duration(self) >= duration('1h')",
            "an approval must be valid for at least 1h; give a longer validity or leave it out",
        ),
    ] = None
    """How long an approval counts when it names no end itself, such as 90d.  Absent: without end."""


class Formats(Spec):
    """Which ways of storing weights may run."""

    allowed: Annotated[tuple[Format, ...], Field(min_length=1, max_length=16), ListSet()]
    """Formats that may run; a version of any other is refused, and pickle wherever it is not named."""


class Governance(Spec):
    """What must be true before a version may run; it can only be stricter than the administrator's floor."""

    approvals: Approvals | None = None
    """Approvals that a version needs.  Absent: what the administrator set for the environment."""
    formats: Formats | None = None
    """Formats that may run.  Absent: what the administrator set for the environment; never pickle."""
    signature: Annotated[
        Unbuilt | None,
        Refused(
            "signatures of model files are not supported yet; leave signature out and rely on artifactDigest"
        ),
    ] = None
    """Signature that the files must carry; not supported yet."""
    evaluation: Annotated[
        Unbuilt | None,
        Refused("evaluation gates are not supported yet; leave evaluation out, approvers read the results"),
    ] = None
    """Evaluation that a version must pass; not supported yet."""
    licenses: Annotated[
        Unbuilt | None,
        Refused(
            "licence rules are not supported yet; leave licenses out and let an approver judge the licence"
        ),
    ] = None
    """Licences that may run; not supported yet."""
    remote_code: Annotated[
        Unbuilt | None,
        Refused(
            "a rule for repository code is not supported yet; leave remoteCode out, no engine runs such code"
        ),
    ] = None
    """Whether code from the repository may run; not supported yet."""
    images: Annotated[
        Unbuilt | None,
        Refused("image rules are not supported yet; leave images out and use the cluster's own image policy"),
    ] = None
    """Container images that may serve the model; not supported yet."""


class ModelSpec(Spec):
    """What the organisation knows about a model."""

    type: ModelType
    """Family of the model; decides which engines and which judgement fit."""
    tasks: Annotated[tuple[Word, ...], Field(max_length=16), ListSet()] | None = None
    """Hugging Face task names, such as text-generation.  Absent: not told."""
    owner: Owner | None = None
    """Who answers for the model.  Absent: not told."""
    risk_tier: RiskTier | None = None
    """How much harm a wrong answer can do.  Absent: not classified."""
    business: Business | None = None
    """Why the organisation has the model.  Absent: not told."""
    license: Line | None = None
    """Licence under which the organisation uses the model, as an SPDX name.  Absent: as each version says."""
    governance: Governance | None = None
    """What must be true before a version may run.  Absent: what the administrator set."""
    aliases: Annotated[
        Annotated[dict[str, LabelName], Field(max_length=32)] | None,
        Rule(
            "self.all(alias, size(alias) > 0 && size(alias) <= 63)",
            "an alias has from 1 to 63 letters; choose another name for it",
        ),
    ] = None
    """ModelVersion by alias, such as champion; a service that names the alias follows it.  Absent: none."""
    track: Annotated[
        Unbuilt | None,
        Refused(
            "following an upstream registry is not supported yet; leave track out and create ModelVersions"
        ),
    ] = None
    """Upstream alias or branch to follow; not supported yet."""
    retraining: Annotated[
        Unbuilt | None,
        Refused(
            "starting a retraining is not supported yet; leave retraining out and use your workflow system"
        ),
    ] = None
    """Workflow to start when the model degrades; not supported yet."""
    retention: Annotated[
        Unbuilt | None,
        Refused("retention is not supported yet; leave retention out and delete old ModelVersions yourself"),
    ] = None
    """How long versions are kept; not supported yet."""


class ModelStatus(Status):
    """What the operator found out about the model."""

    observed_generation: Count | None = None
    """The metadata.generation that this status describes."""
    conditions: Conditions = ()
    """Ready, Reconciling and Stalled."""
    versions: Annotated[dict[str, Count], Field(max_length=32)] | None = None
    """Number of versions by phase."""
    latest: LabelName | None = None
    """Version created last.  Absent: there is none."""
    latest_approved: LabelName | None = None
    """Version created last among the approved.  Absent: there is none."""
    aliases: Annotated[dict[str, LabelName], Field(max_length=32)] | None = None
    """Version by alias, only for versions that exist and belong to this model."""
    in_use: Count | None = None
    """Number of services that run a version of this model."""
    history: History = ()
    """The last 20 decisions about this model, oldest first."""
    audit: AuditHead | None = None
    """End of the audit chain.  Absent: nothing recorded yet."""


class Model(Resource):
    """A model as the organisation knows it: its purpose, its owner, and the rules for its versions."""

    names: ClassVar = Names("Model", "models", "mdl")
    rules: ClassVar = (
        Rule(
            "size(self.metadata.name) <= 63",
            "a Model's name is a label value of at most 63 letters; choose a shorter name",
        ),
    )
    columns: ClassVar = (
        Column("Type", ".spec.type"),
        Column("Risk", ".spec.riskTier"),
        Column("Latest", ".status.latest"),
        Column("Approved", ".status.latestApproved"),
        Column("In-Use", ".status.inUse", "integer"),
        Column("Owner", ".spec.owner.team", wide=True),
        Column("License", ".spec.license", wide=True),
    )
    selectable: ClassVar = (".spec.type",)

    spec: ModelSpec
    """What the organisation knows about the model."""
    status: ModelStatus = Field(default_factory=ModelStatus)
    """What the operator found out.  Absent: not looked at yet."""
