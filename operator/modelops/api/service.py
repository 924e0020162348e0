"""InferenceService: one model behind one address, and how it changes from version to version."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelops.api.meta import (
    Address,
    AuditHead,
    Column,
    Conditions,
    Count,
    Digest,
    History,
    Instant,
    IntOrText,
    LabelMap,
    LabelName,
    Line,
    ListMap,
    ListSet,
    MeasuredCache,
    Message,
    NameRef,
    Names,
    ObjectName,
    OpenStatus,
    Refused,
    Resource,
    Rule,
    Sentence,
    Spec,
    Status,
    Unbuilt,
    Word,
)
from modelops.api.quantities import Memory, parse_memory

Argument = Annotated[str, Field(max_length=4096)]
UserName = Annotated[str, Field(min_length=1, max_length=1024)]
Arguments = Annotated[tuple[Argument, ...], Field(max_length=64)]
Image = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$")]
HttpPath = Annotated[str, Field(max_length=256, pattern=r"^/[A-Za-z0-9._~/-]*$")]
Amount = Annotated[int | str, IntOrText()]
"""A quantity of CPU or memory, as in a pod."""


class ModelChoice(Spec):
    """Which version to serve: one by name, or the one that an alias of a Model names."""

    rules: ClassVar = (
        Rule(
            "has(self.version) != has(self.name) && has(self.name) == has(self.alias)",
            "a service names either a version, or a model and one of its aliases; "
            "set version alone, or name and alias",
        ),
    )

    version: LabelName | None = None
    """ModelVersion in the same namespace.  Absent: name and alias decide."""
    name: LabelName | None = None
    """Model in the same namespace.  Absent: version decides."""
    alias: Word | None = None
    """Alias of that Model; the service follows it.  Absent: version decides."""


class EngineName(StrEnum):
    """Program that runs the model."""

    AUTO = "Auto"
    VLLM = "vLLM"
    SGLANG = "SGLang"
    LLAMA_CPP = "LlamaCpp"
    PREDICTIVE = "Predictive"
    ML_SERVER = "MLServer"
    TRITON = "Triton"
    CUSTOM = "Custom"


class Custom(Spec):
    """A container of your own that speaks the OpenAI protocol over HTTP."""

    command: Arguments | None = None
    """Program and first arguments.  Absent: the image's entry point."""
    args: Arguments | None = None
    """Arguments.  Absent: the image's own."""
    health_path: HttpPath | None = None
    """Path that answers 200 once the model can be asked.  Absent: /health."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port that the container listens on.  Absent: 8080."""


class EnvVar(Spec):
    """One environment variable of the engine; never a secret."""

    name: Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """Name of the variable."""
    value: Annotated[str, Field(max_length=4096)] | None = None
    """Value of the variable.  Absent: empty."""


class EngineSpec(Spec):
    """Which engine serves the model, and with what limits."""

    rules: ClassVar = (
        Rule(
            "has(self.name) && self.name == 'Custom' ? has(self.image) : true",
            "engine Custom needs the image to run; set engine.image",
            "FieldValueRequired",
            ".image",
        ),
        Rule(
            "!has(self.custom) || (has(self.name) && self.name == 'Custom')",
            "engine.custom describes a container of your own; set engine.name to Custom or leave it out",
            "FieldValueForbidden",
            ".custom",
        ),
        Rule(
            "!has(self.image) || (has(self.name) && self.name != 'Auto')",
            "an image belongs to one engine; set engine.name beside engine.image",
            "FieldValueForbidden",
            ".image",
        ),
        Rule(
            "!has(self.name) || self.name != 'Custom'"
            " || (!has(self.contextTokens) && !has(self.maxConcurrency) && !has(self.extraArgs))",
            "engine Custom does not know contextTokens, maxConcurrency and extraArgs; "
            "put its limits into engine.custom.args",
            "FieldValueForbidden",
            ".custom",
        ),
        Rule(
            "!has(self.name) || !(self.name in ['Predictive', 'MLServer', 'Triton'])"
            " || (!has(self.contextTokens) && !has(self.maxConcurrency))",
            "contextTokens and maxConcurrency belong to engines of language models; leave them out",
            "FieldValueForbidden",
            ".name",
        ),
    )

    name: EngineName | None = None
    """Engine.  Absent: Auto, by the format of the version and the type of the model."""
    image: Image | None = None
    """Image of the engine.  Absent: the one that this release was tested with."""
    context_tokens: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Longest prompt plus answer, in tokens.  Absent: chosen, and told in status.placement.plan."""
    max_concurrency: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Requests that one pod works on at a time.  Absent: chosen, and told in status.placement.plan."""
    extra_args: Arguments | None = None
    """Arguments for the engine, after ours.  Absent: none."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=64), ListMap(("name",))] | None = None
    """Environment variables for the engine; never secrets.  Absent: ours alone."""
    custom: Custom | None = None
    """How a container of your own is run; only with engine.name Custom."""
    adapters: Annotated[
        tuple[Unbuilt, ...] | None,
        Refused(
            "LoRA adapters are not supported yet; merge the adapter into its base and serve that version"
        ),
        Field(max_length=32),
    ] = None
    """LoRA adapters to load; not supported yet."""


class GpuSharing(StrEnum):
    """How GPUs are shared."""

    EXCLUSIVE = "Exclusive"
    TIME_SLICING = "TimeSlicing"
    MPS = "MPS"


class Accelerator(Spec):
    """What one pod needs to compute."""

    rules: ClassVar = (
        Rule(
            "!has(self.partition) || !has(self.resourceName)",
            "accelerator.partition finds the resource of its slices itself; leave resourceName out",
            "FieldValueForbidden",
            ".resourceName",
        ),
        Rule(
            "!has(self.count) || self.count == 'Auto' || self.count == 1"
            " || (!has(self.partition) && (!has(self.sharing) || self.sharing == 'Exclusive'))",
            "slices and shares of GPUs work alone; leave accelerator.count out, or take whole GPUs",
            "FieldValueForbidden",
            ".count",
        ),
        Rule(
            "!has(self.nodes) || self.nodes == 1"
            " || (!has(self.partition) && (!has(self.sharing) || self.sharing == 'Exclusive'))",
            "slices and shares of GPUs work alone; leave accelerator.nodes out, or take whole GPUs",
            "FieldValueForbidden",
            ".nodes",
        ),
        Rule(
            "!has(self.nodes) || self.nodes == 1 || !has(self.cpuFallback) || !self.cpuFallback",
            "a group of nodes has no place on CPUs; leave accelerator.cpuFallback out",
            "FieldValueForbidden",
            ".cpuFallback",
        ),
        Rule(
            "!has(self.resourceName) || self.resourceName.startsWith('nvidia.com/') || !has(self.sharing)",
            "accelerator.sharing is known of NVIDIA's GPUs alone; leave it out beside another resource",
            "FieldValueForbidden",
            ".sharing",
        ),
    )

    resource_name: (
        Annotated[
            str, Field(max_length=317, pattern=r"^[a-z0-9][-a-z0-9.]{0,252}/[A-Za-z0-9][-A-Za-z0-9_.]{0,62}$")
        ]
        | None
    ) = None
    """Resource to ask the node for.  Absent: what NVIDIA's device plugin offers and fits tightest."""
    count: Annotated[
        int | Literal["Auto"] | None,
        IntOrText(),
        Rule(
            "type(self) == int ? self >= 1 && self <= 64 : self == 'Auto'",
            "accelerator.count is Auto or a whole number from 1 to 64; correct it",
        ),
    ] = None
    """GPUs for one pod, from 1 to 64, or Auto.  Absent: Auto, the fewest that fit."""
    nodes: Annotated[int, Field(ge=1, le=16)] | None = None
    """Pods of one replica, each with count GPUs and a part of the layers; more than one needs LeaderWorkerSet
    in the cluster, and vLLM or SGLang.  Absent: 1."""
    products: Annotated[tuple[Line, ...], Field(min_length=1, max_length=32), ListSet()] | None = None
    """Products that may be used, as in the node label nvidia.com/gpu.product; beside partition that of the
    whole GPU.  Absent: any."""
    min_memory: Memory | None = None
    """Least memory of one GPU, such as 80Gi.  Absent: what the model needs."""
    sharing: GpuSharing | None = None
    """How a GPU may be shared with other pods.  Absent: any way, with memory divided by the shares."""
    partition: (
        Annotated[
            str,
            Field(
                max_length=32,
                pattern=r"^([1-9]c\.)?[1-9]g\.[1-9][0-9]{0,2}gb([+-](me|me\.all|gfx|all))?$",
            ),
        ]
        | None
    ) = None
    """MIG profile, such as 1g.10gb, under either strategy.  Absent: slices, shares or GPUs, what fits."""
    cpu_fallback: bool | None = None
    """Whether to serve on the CPU where no GPU can ever fit.  Absent: false."""

    @property
    def gpus(self) -> int | None:
        """The wanted GPUs of one pod; None lets placement choose."""
        return self.count if isinstance(self.count, int) else None

    @property
    def min_memory_bytes(self) -> int | None:
        """The least memory of one GPU, in bytes; ValueError when it is not an amount."""
        return None if self.min_memory is None else parse_memory(self.min_memory)


class TolerationOperator(StrEnum):
    """How a toleration compares."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(Spec):
    """A taint that the pods put up with, as in a pod."""

    rules: ClassVar = (
        Rule(
            "!has(self.value) || !has(self.operator) || self.operator == 'Equal'",
            "a toleration with operator Exists has no value; remove value or use Equal",
            "FieldValueForbidden",
            ".value",
        ),
    )

    key: Annotated[str, Field(max_length=317)] | None = None
    """Key of the taint.  Absent: any key."""
    operator: TolerationOperator | None = None
    """Exists or Equal.  Absent: Equal."""
    value: Annotated[str, Field(max_length=63)] | None = None
    """Value of the taint.  Absent: empty."""
    effect: TaintEffect | None = None
    """Effect of the taint.  Absent: any."""
    toleration_seconds: Count | None = None
    """How long NoExecute is put up with, in seconds.  Absent: for ever."""


class Placement(Spec):
    """Where the pods may run."""

    node_selector: LabelMap | None = None
    """Labels that a node must have.  Absent: none."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] | None = None
    """Taints that the pods put up with.  Absent: none."""
    zones: Annotated[tuple[Word, ...], Field(min_length=1, max_length=16), ListSet()] | None = None
    """Zones, as in the node label topology.kubernetes.io/zone.  Absent: any."""
    priority_class_name: ObjectName | None = None
    """PriorityClass of the pods.  Absent: the cluster's default."""
    topology: Annotated[
        Unbuilt | None, Refused("spreading over a topology is not supported yet; use zones or nodeSelector")
    ] = None
    """How pods are spread; not supported yet."""


Replicas = Annotated[int, Field(ge=1, le=256)]


class Scaling(Spec):
    """How many pods serve."""

    rules: ClassVar = (
        Rule(
            "!has(self.maxReplicas) || self.maxReplicas == (has(self.minReplicas) ? self.minReplicas : 1)",
            "scaling by load is not supported yet; set maxReplicas equal to minReplicas or leave it out",
            "FieldValueForbidden",
            ".maxReplicas",
        ),
    )

    min_replicas: Replicas | None = None
    """Pods that always serve.  Absent: 1."""
    max_replicas: Replicas | None = None
    """Pods at the most; for now equal to minReplicas.  Absent: minReplicas."""
    metric: Annotated[
        Unbuilt | None, Refused("scaling by load is not supported yet; leave metric out and set minReplicas")
    ] = None
    """Metric to scale by; not supported yet."""
    target: Annotated[
        Line | None, Refused("scaling by load is not supported yet; leave target out and set minReplicas")
    ] = None
    """Value of the metric to hold; not supported yet."""
    schedule: Annotated[
        Unbuilt | None,
        Refused("scaling by the clock is not supported yet; leave schedule out and set minReplicas"),
    ] = None
    """Replicas by time of day; not supported yet."""


class GatewayRef(Spec):
    """A listener of a Gateway."""

    name: ObjectName
    """Name of the Gateway."""
    namespace: Word | None = None
    """Namespace of the Gateway.  Absent: the service's own."""
    section_name: Annotated[str, Field(max_length=253)] | None = None
    """Listener of the Gateway.  Absent: all that accept the route."""


Hostname = Annotated[
    str,
    Field(
        max_length=253,
        pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$",
    ),
]


class Traffic(Spec):
    """How requests reach the model."""

    gateway_ref: GatewayRef | None = None
    """Gateway that carries the route.  Absent: the one in the chart's values."""
    hostnames: Annotated[tuple[Hostname, ...], Field(min_length=1, max_length=16), ListSet()] | None = None
    """Host names of the route.  Absent: <name>.<namespace>.<the chart's gateway.domain>."""
    path: HttpPath | None = None
    """Prefix of the paths that reach the model.  Absent: /."""
    session_affinity: Annotated[
        Unbuilt | None, Refused("session affinity is not supported yet; leave sessionAffinity out")
    ] = None
    """Whether a client stays with one version; not supported yet."""


class Action(StrEnum):
    """What a person wants done with a run."""

    PROMOTE = "Promote"
    ABORT = "Abort"
    RETRY = "Retry"
    PAUSE = "Pause"
    RESUME = "Resume"


class RolloutAction(Spec):
    """An action of a person on one run; done once, harmless when it stays."""

    action: Action
    """Promote, Abort, Retry, Pause or Resume."""
    run_id: Word
    """Run that the action is for, as in status.rollout.runId; any other run ignores it."""
    wait: Count | None = None
    """Wait that Promote or Resume is for, as in status.rollout.wait; it does nothing at another one, and a
    second Resume in one run is another action than the first.  Absent: it is done once in its run."""
    by: UserName | None = None
    """Who asks, as the API server authenticated it; it writes the name itself from Kubernetes 1.36 on, and
    before it refuses another.  Absent: not recorded."""
    approves: ObjectName | None = None
    """Model on which who asks holds the verb approve; makes of a Promote the approval that a policy with
    approval asks for.  The API server checks it, and writes it itself from 1.36 on.  Absent: no approval."""


_CONTAINER_RESOURCES = Annotated[
    dict[str, Amount],
    Field(max_length=8),
    Rule(
        "self.all(name, name in ['cpu', 'memory', 'ephemeral-storage'])",
        "only cpu, memory and ephemeral-storage stand here; ask for GPUs in spec.accelerator",
        "FieldValueForbidden",
    ),
]


class Resources(Spec):
    """Compute resources of the engine's container."""

    requests: _CONTAINER_RESOURCES | None = None
    """What the node must have free.  Absent: chosen from the size of the model."""
    limits: _CONTAINER_RESOURCES | None = None
    """What the container may use at the most.  Absent: no limit but the accelerator."""


_OWN_KEYS = Rule(
    "self.all(key, !key.startsWith('modelops.dev/') && key != 'app.kubernetes.io/managed-by')",
    "keys of modelops.dev and app.kubernetes.io/managed-by are set by the operator; choose another prefix",
    "FieldValueForbidden",
)


class PodTemplate(Spec):
    """What is laid over the pods that we build."""

    labels: Annotated[LabelMap | None, _OWN_KEYS] = None
    """Labels for the pods.  Absent: ours alone."""
    annotations: Annotated[
        Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64)] | None,
        _OWN_KEYS,
    ] = None
    """Annotations for the pods.  Absent: ours alone."""
    resources: Resources | None = None
    """Compute resources of the engine's container.  Absent: chosen from the size of the model."""


class ServiceSpec(Spec):
    """Which model to serve, on what, and how it changes."""

    model: ModelChoice
    """Which version to serve."""
    engine: EngineSpec | None = None
    """Which engine serves it, and with what limits.  Absent: chosen by the format."""
    accelerator: Accelerator | None = None
    """What one pod needs to compute.  Absent: the fewest GPUs that fit."""
    placement: Placement | None = None
    """Where the pods may run.  Absent: anywhere."""
    scaling: Scaling | None = None
    """How many pods serve.  Absent: one."""
    traffic: Traffic | None = None
    """How requests reach the model.  Absent: by the chart's gateway."""
    rollout_policy_ref: NameRef | None = None
    """RolloutPolicy for changes.  Absent: the namespace's default one, else replacement by readiness."""
    rollout: RolloutAction | None = None
    """Action on a running rollout.  Absent: none."""
    pod_template: PodTemplate | None = None
    """What is laid over the pods that we build.  Absent: nothing."""


class RoleStatus(OpenStatus):
    """One revision in its role."""

    version: LabelName | None = None
    """ModelVersion that it serves."""
    hash: Word | None = None
    """Hash of the revision, the end of its Deployment's name."""
    artifact_digest: Digest | None = None
    """Digest of the bytes that it serves."""


class RejectedCandidate(OpenStatus):
    """A place that was looked at and not taken."""

    node: ObjectName | None = None
    """Name of the node."""
    product: Line | None = None
    """GPU product of the node."""
    reason: Word | None = None
    """Reason code."""
    message: Message | None = None
    """Why, as one sentence with numbers."""


class PlacementPlan(OpenStatus):
    """Where the pods are to run, and why there."""

    engine: Line | None = None
    """Engine that Auto chose, and why.  Absent: the service names one."""
    node: ObjectName | None = None
    """Node that fits best; a preference, since schedulers have the last word."""
    product: Line | None = None
    """GPU product that the pods require."""
    gpus: Count | None = None
    """GPUs of one pod."""
    gpu_memory_bytes: Count | None = None
    """Memory of one GPU, in bytes."""
    context_tokens: Count | None = None
    """Longest prompt plus answer that is served, in tokens."""
    max_concurrency: Count | None = None
    """Requests that one pod works on at a time."""
    verdict: Word | None = None
    """Whether it fits, in one word."""
    message: Message | None = None
    """Why, as one sentence with numbers."""
    rejected: Annotated[tuple[RejectedCandidate, ...], Field(max_length=100)] = ()
    """Places that were looked at and not taken, with reasons."""


class PlacementStatus(OpenStatus):
    """What placement decided."""

    plan: PlacementPlan | None = None
    """Where the pods of the newest revision are to run.  Absent: not placed."""
    measured: Annotated[tuple[MeasuredCache, ...], Field(max_length=10)] = ()
    """What engines of this service reported of their caches, the last ten.  Absent: none did."""


class RolloutPhase(StrEnum):
    """Where a run stands."""

    STABLE = "Stable"
    AWAITING_APPROVAL = "AwaitingApproval"
    STARTING = "Starting"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    PROMOTING = "Promoting"
    BAKING = "Baking"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"
    REVERTING = "Reverting"
    SUPERSEDING = "Superseding"


class StepStatus(OpenStatus):
    """The step that a run is at."""

    index: int | None = None
    """Position of the step, from 0; -1 before the first, while requests are mirrored or it is previewed."""
    of: Count | None = None
    """Number of steps."""
    weight: Count | None = None
    """Share of requests that the step gives to the candidate, in percent."""
    started_at: Instant | None = None
    """When the route was accepted with this weight."""


class SplitterStatus(OpenStatus):
    """An object that sends requests to the versions."""

    kind: Word | None = None
    """HTTPRoute, GRPCRoute or Service."""
    name: ObjectName | None = None
    """Its name, in the namespace of the service."""
    accepted: bool | None = None
    """Whether the gateway accepted its newest version.  Absent: no gateway is asked."""
    yours: bool | None = None
    """Whether it is a user's own, of which weights alone are changed.  Absent: false."""


class TrafficStatus(OpenStatus):
    """How requests are shared, in percent for the candidate."""

    desired: Count | None = None
    """Share that is wanted."""
    observed: Count | None = None
    """Share in the route that the gateway accepted."""
    measured: float | None = None
    """Share that was counted.  Absent: not enough requests."""
    effective: float | None = None
    """Share by number of ready pods, where no gateway splits."""
    asked: Count | None = None
    """Share that the last pass asked of the route: 0 while the candidate has no ready pod."""
    mirror: Count | None = None
    """Percent of the requests that are copied to the candidate.  Absent: none."""
    matched: bool | None = None
    """Whether requests that the policy matches go to the candidate.  Absent: false."""
    route_accepted: bool | None = None
    """Whether the gateway accepted the newest route."""
    by: Annotated[tuple[SplitterStatus, ...], Field(max_length=4)] = ()
    """What sends requests to the versions."""
    mismatch: bool | None = None
    """Whether requests were counted that do not go with the weight, which holds the step.  Absent: false."""


class Evidence(OpenStatus):
    """How strongly the numbers speak against the candidate, as a bet to one."""

    regression: float | None = None
    """Evidence for a regression now."""
    hold_at: float | None = None
    """Evidence from which the weight is held."""
    rollback_at: float | None = None
    """Evidence from which the run is rolled back."""


class Requests(OpenStatus):
    """Numbers of requests."""

    canary: Count | None = None
    """Requests of the candidate."""
    stable: Count | None = None
    """Requests of the stable version in the same windows."""


class MetricStatus(OpenStatus):
    """One metric of both versions side by side."""

    name: Word | None = None
    """Name of the metric."""
    canary: Line | None = None
    """Value of the candidate, for people."""
    stable: Line | None = None
    """Value of the stable version in the same windows, for people."""
    n: Requests | None = None
    """Requests behind both values."""
    regression: float | None = None
    """Evidence for a regression by this metric."""
    certificate: float | None = None
    """Proof so far that it is no worse than allowed."""
    promote_at: float | None = None
    """Proof from which the metric lets the run be promoted."""
    verdict: Word | None = None
    """What the metric says, in one word."""


class AnalysisStatus(OpenStatus):
    """What the judge sees."""

    evidence: Evidence | None = None
    """How strongly the numbers speak against the candidate."""
    metrics: Annotated[tuple[MetricStatus, ...], Field(max_length=20)] = ()
    """Metrics of both versions, at most 20."""


class PodsStatus(OpenStatus):
    """What the pods of a run are sized for, in percent of the requests; absent parts are as usual."""

    room: Word | None = None
    """Where the candidate's pods find room, fixed for the run.  Absent: Surge."""
    candidate: Count | None = None
    """Share that the candidate's pods are for."""
    fixed: Count | None = None
    """Pods of the candidate by the policy, whatever the share."""
    stable: Count | None = None
    """Share that stable's pods are for.  Absent: 100."""
    previous: Count | None = None
    """Share that the pods of the version before are for.  Absent: 100."""


class SpanStatus(Status):
    """A time in which a run stood still."""

    start: Instant
    """Begin."""
    end: Instant
    """End."""


class EraStatus(OpenStatus):
    """What a run was judged with from an instant on."""

    since: Instant
    """When these settings took effect."""


class ApprovalAsked(Status):
    """Who may promote where the rollout policy asks for approval."""

    model: ObjectName
    """Model on which who gives a Promote must hold the verb approve."""


class ActedStatus(Status):
    """The last action of a person that was carried out."""

    action: Word
    """What was asked."""
    run_id: Word
    """Run that it was for."""
    wait: Count | None = None
    """Wait that it was for.  Absent: any."""
    by: UserName | None = None
    """Who asked, as the API server authenticated it.  Absent: not recorded."""
    approves: ObjectName | None = None
    """Model on which it was an approval.  Absent: it was none."""


class RolloutStatus(OpenStatus):
    """The run from one version to the next."""

    run_id: Word | None = None
    """Name of the run; actions give it in spec.rollout.runId."""
    phase: RolloutPhase | None = None
    """Where the run stands."""
    paused_for: Annotated[tuple[Word, ...], Field(max_length=16)] = ()
    """Why it is paused; it goes on when none is left."""
    awaits: Word | None = None
    """In AwaitingApproval: Start or Promotion.  Absent: the gates of the version."""
    wait: Count | None = None
    """How often the run began to wait; an action names it in spec.rollout.wait."""
    approval: ApprovalAsked | None = None
    """What a Promote needs under this rollout policy.  Absent: nothing but the right to edit the service."""
    acted: ActedStatus | None = None
    """The last action of a person that was carried out.  Absent: none in any run."""
    step: StepStatus | None = None
    """The step it is at."""
    traffic: TrafficStatus | None = None
    """How requests are shared."""
    pods: PodsStatus | None = None
    """What the pods are sized for."""
    pauses: Annotated[tuple[SpanStatus, ...], Field(max_length=20)] = ()
    """When the run stood still before."""
    eras: Annotated[tuple[EraStatus, ...], Field(max_length=8)] = ()
    """What it is judged with, oldest first; the last is in force."""
    promoted_at: Instant | None = None
    """When the stable version changed last."""
    message: Message | None = None
    """What happens now, as one sentence with numbers."""
    analysis: AnalysisStatus | None = None
    """What the judge sees.  Absent: nothing judged yet."""


class RejectedRevision(OpenStatus):
    """A revision that was rolled back and is not tried again."""

    hash: Word
    """Hash of the revision."""
    version: LabelName | None = None
    """ModelVersion that it served."""
    at: Instant | None = None
    """When it was rolled back."""
    reason: Sentence | None = None
    """Why, with the numbers of both versions."""


class Usage(Status):
    """What the service was used for."""

    window: Word | None = None
    """Time that the numbers cover, such as 24h."""
    requests: Count | None = None
    """Requests."""
    input_tokens: Count | None = None
    """Tokens of prompts."""
    output_tokens: Count | None = None
    """Tokens of answers."""
    gpu_seconds: Count | None = None
    """GPUs times seconds."""


class LastFailure(OpenStatus):
    """Why a container last ended badly."""

    reason: Word | None = None
    """What happened, in one word."""
    exit_code: int | None = None
    """Exit code of the container.  Absent: it never ran."""
    oom_killed: bool | None = None
    """Whether it ran out of memory."""
    message: Message | None = None
    """What to do about it.  Absent: unknown."""
    log_tail: Annotated[str, Field(max_length=4096)] | None = None
    """End of the log, without secrets; only of containers that never became ready."""


class ServiceStatus(Status):
    """What the operator found out and did."""

    observed_generation: Count | None = None
    """The metadata.generation that this status describes."""
    conditions: Conditions = ()
    """Ready, Reconciling, Stalled, ModelAdmitted, Placed, RouteAccepted, RolloutHealthy and more."""
    url: Address | None = None
    """Where clients send requests.  Absent: no address yet."""
    model: LabelName | None = None
    """ModelVersion that spec.model means now.  Absent: it does not exist."""
    engine: Word | None = None
    """Engine that serves.  Absent: not chosen yet."""
    accelerator: Line | None = None
    """What one pod runs on, for people, such as 2 x NVIDIA-H200."""
    pods: Word | None = None
    """Ready pods and wanted pods, for people, such as 1/2."""
    replicas: Count | None = None
    """Pods of all roles."""
    ready_replicas: Count | None = None
    """Ready pods of all roles."""
    stable: RoleStatus | None = None
    """Revision that serves.  Absent: none ever became ready."""
    candidate: RoleStatus | None = None
    """Revision that is to take over.  Absent: none."""
    placement: PlacementStatus | None = None
    """What placement decided."""
    rollout: RolloutStatus | None = None
    """The run from one version to the next."""
    rejected: Annotated[tuple[RejectedRevision, ...], Field(max_length=10)] = ()
    """Revisions that were rolled back, the last 10."""
    usage: Usage | None = None
    """What the service was used for.  Absent: not measured."""
    last_failure: LastFailure | None = None
    """Why a container last ended badly.  Absent: none did."""
    history: History = ()
    """The last 20 decisions about this service, oldest first."""
    audit: AuditHead | None = None
    """End of the audit chain.  Absent: nothing recorded yet."""


class InferenceService(Resource):
    """One model behind one address, changed from version to version under judgement."""

    names: ClassVar = Names("InferenceService", "inferenceservices", "infsvc")
    rules: ClassVar = (
        Rule(
            "size(self.metadata.name) <= 53",
            "an InferenceService's name has at most 53 letters, children add a hash; choose a shorter one",
        ),
        Rule(
            "size(self.metadata.name) <= 40 || !has(self.spec.accelerator)"
            " || !has(self.spec.accelerator.nodes) || self.spec.accelerator.nodes == 1",
            "a service on several nodes has a name of at most 40 letters, as pods add more; shorten it",
        ),
        Rule(
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "a Service bears this name: small letters, digits and dashes, a letter first; choose such a name",
        ),
    )
    columns: ClassVar = (
        Column("Serves", ".status.stable.version"),
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Replicas", ".status.pods"),
        Column("Rollout", ".status.rollout.phase"),
        Column("Weight", ".status.rollout.traffic.observed", "integer"),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
        Column("URL", ".status.url", wide=True),
        Column("Engine", ".status.engine", wide=True),
        Column("Accelerator", ".status.accelerator", wide=True),
        Column("Wanted", ".status.model", wide=True),
        Column("Candidate", ".status.candidate.version", wide=True),
        Column("Step", ".status.rollout.step.index", "integer", wide=True),
        Column("Measured", ".status.rollout.traffic.measured", "number", wide=True),
        Column("Paused-For", ".status.rollout.pausedFor", wide=True),
    )
    selectable: ClassVar = (".spec.model.version", ".spec.model.name", ".spec.rolloutPolicyRef.name")

    spec: ServiceSpec
    """Which model to serve, on what, and how it changes."""
    status: ServiceStatus = Field(default_factory=ServiceStatus)
    """What the operator found out and did.  Absent: not looked at yet."""
