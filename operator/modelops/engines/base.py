"""What every engine is told, and what it answers: four members, no I/O, no knowledge of another engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol, Self

from modelops.engines.geometry import Geometry, recall, uniform
from modelops.plan import Reason

GIB = 2**30
UNKNOWN_CONTEXT_TOKENS = 4096
"""Used when neither the user nor the model's files say how long a context may be."""
CUDA13_DRIVER = 580
"""Oldest driver branch that runs CUDA 13 images.  Source: research/engines.md 1, fact 3."""

LANGUAGE = frozenset({"LLM", "Embedding", "Reranker", "Custom"})
"""Types of models that engines of language models serve."""
TABULAR = frozenset({"Predictive", "Decision", "Analytics", "Graph", "Custom"})
"""Types of models that answer from a row of features."""

MIXTURES = ("moe", "mixtral", "gptoss", "deepseek", "llama4", "dbrx")
"""Parts of the names of architectures with experts; taking a dense model for one only adds overhead."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the files of one version say about it; None means the files do not say."""

    name: str
    """Of the ModelVersion, for sentences."""
    format: str = ""
    """GGUF, safetensors, or a format that only some engine of predictive models knows."""
    architecture: str | None = None
    parameters: int | None = None
    weights_bytes: int | None = None
    """Sum over the tensors as they lie in the files, never the sum of file sizes."""
    layers: int | None = None
    hidden_size: int | None = None
    attention_heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    vocabulary: int | None = None
    context_tokens: int | None = None
    sliding_window: int | None = None
    experts: int | None = None
    quantization: str | None = None
    remote_code: bool = False
    main_file: str | None = None
    """Path below the version's files of the one to load; of a GGUF in parts the first."""
    file_bytes: int | None = None
    """Sum of the sizes of all files: what is read at start where tensors are not known."""
    geometry: Geometry | None = None
    """Layer by layer, where config.json was read.  None: made of the fields above, each layer full."""

    @classmethod
    def read(cls, name: str, resolved: Mapping[str, Any]) -> Self:
        """Return the facts in a version's ``status.resolved``; what is absent there is unknown."""
        return cls(
            name=name,
            format=resolved.get("format") or "",
            architecture=resolved.get("architecture"),
            parameters=resolved.get("parameters"),
            weights_bytes=resolved.get("weightsBytes"),
            layers=resolved.get("layers"),
            hidden_size=resolved.get("hiddenSize"),
            attention_heads=resolved.get("attentionHeads"),
            kv_heads=resolved.get("kvHeads"),
            head_dim=resolved.get("headDim"),
            vocabulary=resolved.get("vocabulary"),
            context_tokens=resolved.get("contextTokens"),
            sliding_window=resolved.get("slidingWindow"),
            quantization=resolved.get("quantization"),
            remote_code=bool(resolved.get("remoteCode")),
            main_file=resolved.get("mainFile"),
            geometry=recall(resolved.get("attention") or ""),
            file_bytes=resolved.get("bytes"),
        )

    def layout(self) -> Geometry | None:
        """Return the geometry; None when too little is known to reckon with.

        From the plain fields every layer counts as full, which is an upper bound: which layers slide
        is not among them.
        """
        if self.geometry:
            return self.geometry
        if not (self.layers and self.hidden_size and self.attention_heads and self.vocabulary):
            return None
        return uniform(
            layers=self.layers,
            hidden_size=self.hidden_size,
            attention_heads=self.attention_heads,
            kv_heads=self.kv_heads or self.attention_heads,
            head_dim=self.head_dim or self.hidden_size // self.attention_heads,
            vocabulary=self.vocabulary,
            context_tokens=self.context_tokens or UNKNOWN_CONTEXT_TOKENS,
            experts=self.experts or int(self._is_mixture()),
        )

    def _is_mixture(self) -> bool:
        """Tell from the architecture's name whether layers hold experts, where their number is not known."""
        name = (self.architecture or "").lower().replace("_", "").replace("-", "")
        return any(part in name for part in MIXTURES)

    def longest_context(self) -> int:
        """Return the model's own limit in tokens."""
        known = self.context_tokens or (self.geometry and self.geometry.context_tokens)
        return known or UNKNOWN_CONTEXT_TOKENS


class Compute(StrEnum):
    """What an engine computes on."""

    GPUS = "GPUs"
    """CPUs only where the user allows them in place of GPUs."""
    EITHER = "either"
    """CPUs unless the service asks for an accelerator."""
    CPUS = "CPUs"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU of a node, as its labels describe it, or the share of it that a pod gets."""

    product: str
    """The node's label, verbatim."""
    memory_bytes: int
    """With the driver's reserve; already divided where a GPU is shared."""
    capability: tuple[int, int] | None = None
    driver_major: int | None = None
    shares: int = 1
    """How many pods share one GPU."""
    is_time_sliced: bool = False
    """Shared without any wall between memories, so that an engine sees the whole GPU."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """One LoRA adapter that an engine loads at start beside its model."""

    name: str
    """As callers name it in place of the model."""
    path: str
    """Folder of its files in the container."""
    rank: int


@dataclass(frozen=True, slots=True)
class Ask:
    """How one revision shall be served: by the user's words first, then filled in by the placement."""

    served_name: str
    context_tokens: int | None = None
    """Of one request.  None: the model's own limit."""
    max_concurrency: int | None = None
    """Requests at a time.  None: the engine's default."""
    gpus: int = 1
    """Of one pod, over which each layer is split.  0 means on CPUs."""
    stages: int = 1
    """Pods that hold the model together, each a part of its layers: the pipeline parallel size."""
    gpu: Gpu | None = None
    """None: not chosen yet."""
    adapters: tuple[Adapter, ...] = ()
    model_path: str = "/model/files"
    image: str | None = None
    command: tuple[str, ...] = ()
    """Empty: the engine's own."""
    extra_args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    port: int | None = None
    """Where a container of the user's own listens.  None: 8080; other engines know theirs."""
    health_path: str | None = None
    """Where it answers 200 once it can serve.  None: /health; other engines know theirs."""
    drain: timedelta = timedelta(minutes=5)
    """How long running requests may go on after the pod is told to end."""
    read_bytes_per_second: int = 500_000_000
    """How fast weights are read at start; half of a slow NVMe disk by default."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes on each GPU, and the limits they were reckoned with."""

    weights_bytes_per_gpu: int
    kv_bytes_per_token: int
    kv_bytes_one_request: int
    """One request of the whole context."""
    kv_bytes_required: int
    """Without these the engine does not start."""
    overhead_low_bytes: int
    overhead_high_bytes: int
    """Neither weights nor cache: the best and the worst of what was published."""
    context_tokens: int
    max_concurrency: int
    memory_percent: int = 100
    """Share of a GPU's usable memory that the engine takes."""
    correction: str = ""
    """Whose measurement the overhead comes from, in words; empty: it is the published band."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What the engine's container is made of."""

    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: Mapping[str, str]
    port: int
    health_path: str
    ready_path: str
    startup_seconds: int
    """Budget from the start of the container to ready."""
    shm_bytes: int
    """Size of /dev/shm; 0 for none."""
    drain: timedelta
    metered: bool
    """The meter faces the callers and the probes; the engine listens for it alone."""
    engine_metrics_path: str | None
    writable: tuple[str, ...]
    """Folders that need a volume, since the root file system is read-only."""
    grpc_port: int | None = None
    """Where callers speak gRPC.  None: nowhere."""
    metrics_port: int | None = None
    """Where an engine that is not metered is scraped.  None: on its port."""
    model_at: str = ""
    """Where the version's files are mounted too, for engines that want names in paths; empty: nowhere."""
    health_timeout_seconds: int = 10
    health_period_seconds: int = 10
    startup_timeout_seconds: int = 5
    startup_period_seconds: int = 1
    ready_period_seconds: int = 2
    """How often the probes ask.  A start is told from a failure by ``startup_seconds``, not by these."""
    worker_args: tuple[str, ...] = ()
    """Arguments of the pods of a group that do not lead; empty: the pod serves alone."""
    worker_pre_stop: tuple[str, ...] = ()
    """What such a pod waits for before it is told to end; empty: it knows itself when its leader ended."""
    tells: bool = True
    """Whether the end of its log is kept when it ends badly; False where it may log what it is asked."""


@dataclass(frozen=True, slots=True)
class Series:
    """A counter, gauge or bucket series by name, and label matchers without braces."""

    name: str
    matchers: str = ""


@dataclass(frozen=True, slots=True)
class CachePool:
    """Where an engine tells how large its cache became."""

    series: Series
    tokens_label: str = ""
    """Label of the series that holds the number of tokens; empty: its value does."""
    blocks_label: str = ""
    """Label that holds the number of blocks, where the tokens are not told; empty: none does."""


@dataclass(frozen=True, slots=True)
class Queries:
    """What the engine calls things; None where it does not measure them.

    Each of ``errors`` counts failures among ``requests`` by itself.  Latencies are histograms with one
    observation per request, named with their ``_bucket`` suffix.  Load is told by gauges: requests that
    are worked on, that wait, the used share of the key-value cache from 0 to 1, and the tokens in it.
    """

    requests: Series
    errors: tuple[Series, ...]
    ttft: Series | None = None
    tpot: Series | None = None
    e2e: Series | None = None
    prompt_tokens: Series | None = None
    generation_tokens: Series | None = None
    running: Series | None = None
    waiting: Series | None = None
    kv_usage: Series | None = None
    tokens_used: Series | None = None
    pool: CachePool | None = None
    """Size of the whole cache.  None: the engine takes what it is told, or does not tell."""


METERED = Queries(
    requests=Series("modelops_requests_total", 'code!="aborted"'),
    errors=(Series("modelops_requests_total", 'code="5xx"'),),
    ttft=Series("modelops_request_ttft_seconds_bucket"),
    tpot=Series("modelops_request_tpot_seconds_bucket"),
    e2e=Series("modelops_request_e2e_seconds_bucket"),
    prompt_tokens=Series("modelops_prompt_tokens_total"),
    generation_tokens=Series("modelops_generation_tokens_total"),
    running=Series("modelops_requests_in_flight"),
)
"""The meter's names, for engines that measure too little themselves."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What an engine says when it cannot start."""

    text: str
    """Short and stable part of a line."""
    advice: str
    """What is wrong and what to do, as the beginning of a sentence that quotes the line."""


class Engine(Protocol):
    """One engine: a name, what it is made for, and four answers."""

    @property
    def name(self) -> str:
        """Return the name in ``engine.name``."""

    @property
    def formats(self) -> tuple[str, ...]:
        """Return the formats it loads; empty when it takes what it is given."""

    @property
    def types(self) -> frozenset[str]:
        """Return the types of models that Auto gives it; empty: none, it has to be named."""

    @property
    def computes_on(self) -> Compute:
        """Return what it computes on."""

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Return what it says when it cannot start, the most telling first."""

    @property
    def queries(self) -> Queries:
        """Return its metrics."""

    def refuses(self, model: Facts, ask: Ask) -> Reason | None:
        """Return why it cannot serve *model* like this, without looking at memory.

        Asked once without a GPU for what holds anywhere, then for each GPU in question.
        """

    def footprint(self, model: Facts, ask: Ask) -> Footprint | None:
        """Return what it needs on each GPU; None when too little is known to say."""

    def launch(self, model: Facts, ask: Ask) -> Launch:
        """Return what to start; *ask* has its context, concurrency and GPUs filled in."""

    def __hash__(self) -> int:
        """Return the same number for the same engine: its answers are kept."""


def refuse_format(engine: str, formats: tuple[str, ...], model: Facts, *, instead: str) -> Reason | None:
    """Refuse a format that is not among *formats*; letter case does not matter."""
    if model.format.lower() in {known.lower() for known in formats}:
        return None
    return Reason(
        "FormatUnsupported",
        f"{model.name}: {engine} needs {' or '.join(formats)}, found {model.format or 'no known format'}; "
        f"set engine.name to {instead}",
    )


def refuse_context(model: Facts, ask: Ask) -> Reason | None:
    """Refuse a context longer than the model was made for."""
    limit = model.context_tokens or (model.geometry and model.geometry.context_tokens)
    if not limit or not ask.context_tokens or ask.context_tokens <= limit:
        return None
    return Reason(
        "ContextTooLong",
        f"{model.name}: engine.contextTokens may be at most the model's {limit}, "
        f"found {ask.context_tokens}; lower it",
    )


def refuse_driver(model: Facts, ask: Ask, image: str) -> Reason | None:
    """Refuse a driver too old for an image built on CUDA 13; an unknown driver passes."""
    driver = ask.gpu.driver_major if ask.gpu else None
    if driver is None or driver >= CUDA13_DRIVER:
        return None
    return Reason(
        "DriverTooOld",
        f"{model.name}: image {image} needs NVIDIA driver {CUDA13_DRIVER} or newer, found {driver}; "
        "update the driver or set engine.image to a CUDA 12 build",
    )


def refuse_code(engine: str, model: Facts) -> Reason | None:
    """Refuse a version that brings code which the engine would run."""
    if not model.remote_code:
        return None
    return Reason(
        "RemoteCode",
        f"{model.name}: {engine} needs a model without code of its own, found files that run at load; "
        f"use a version whose architecture {engine} knows",
    )


def refuse_no_file(engine: str, model: Facts) -> Reason | None:
    """Refuse a version in which it is not clear what to load."""
    if model.main_file:
        return None
    return Reason(
        "MainFileUnknown",
        f"{model.name}: {engine} needs one {model.format} file to load, found none or several; "
        "narrow source.huggingFace.allowPatterns to one",
    )


def refuse_limits(engine: str, model: Facts, ask: Ask) -> Reason | None:
    """Refuse limits of language models, which engines for other models do not have."""
    found = "contextTokens" if ask.context_tokens else "maxConcurrency" if ask.max_concurrency else ""
    if not found:
        return None
    return Reason(
        "LimitUnknown",
        f"{model.name}: {engine} needs engine without {found}, which it does not have; remove it",
    )


def refuse_no_adapters(engine: str, model: Facts, ask: Ask) -> Reason | None:
    """Refuse adapters for an engine whose callers cannot choose one by its name."""
    if not ask.adapters:
        return None
    return Reason(
        "AdaptersUnsupported",
        f"{model.name}: {engine} serves no adapter by name, found {ask.adapters[0].name}; set engine.name to "
        "vLLM or SGLang, or merge the adapter into its base",
    )


def refuse_nodes(engine: str, model: Facts, ask: Ask) -> Reason | None:
    """Refuse a group of nodes for an engine that works on one."""
    if ask.stages == 1:
        return None
    return Reason(
        "NodesUnsupported",
        f"{model.name}: {engine} works on one node, found accelerator.nodes {ask.stages}; leave nodes out, "
        "or set engine.name to vLLM or SGLang",
    )


def refuse_gpus(engine: str, model: Facts, ask: Ask) -> Reason | None:
    """Refuse GPUs for an engine that would not use them."""
    if not ask.gpus:
        return None
    return Reason(
        "GpuUnused",
        f"{model.name}: {engine} computes on CPUs, found {ask.gpus} GPU; leave accelerator out",
    )


def reading_seconds(model: Facts, ask: Ask) -> int:
    """Return how long reading the weights takes, rounded down; 0 where their size is not known."""
    return (model.weights_bytes or model.file_bytes or 0) // ask.read_bytes_per_second
