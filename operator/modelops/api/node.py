"""ModelNode: what the agents of one node report about its GPUs, its cache and its disk."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from modelops.api.meta import (
    Column,
    Conditions,
    Count,
    Digest,
    Instant,
    LabelName,
    Line,
    ListMap,
    Message,
    Names,
    Resource,
    Status,
    Word,
)


class MigDevice(Status):
    """One slice of a GPU."""

    profile: Word
    """Profile of the slice, such as 1g.10gb."""
    memory_bytes: Count | None = None
    """Memory of the slice, in bytes."""
    free_bytes: Count | None = None
    """Memory of the slice that is free, in bytes."""


class Gpu(Status):
    """One GPU, as NVML reports it.  Neither UUID nor serial number: nothing that decides needs them."""

    index: Count
    """NVML index of the GPU, by which nvidia-smi -i finds it."""
    product: Line | None = None
    """Product name in the form of the node label nvidia.com/gpu.product.  Absent: it did not answer."""
    memory_bytes: Count | None = None
    """Memory with the driver's reserve, in bytes.  Absent: it did not answer."""
    free_bytes: Count | None = None
    """Memory that is free, in bytes.  Absent: the GPU does not tell."""
    reserved_bytes: Count | None = None
    """Memory that the driver keeps, in bytes.  Absent: the GPU does not tell."""
    healthy: bool
    """Whether the GPU may be used; if not, message says why."""
    fault: Line | None = None
    """What is wrong, in few words, such as XID 79.  Absent: nothing."""
    message: Message | None = None
    """What is wrong and what to do.  Absent: nothing."""
    xid: Count | None = None
    """Last critical XID error.  Absent: none since the agent started."""
    ecc_uncorrected: Count | None = None
    """Uncorrected memory errors since the driver was loaded.  Absent: the GPU does not tell."""
    remapped_rows: Count | None = None
    """Memory rows that were remapped.  Absent: the GPU does not tell."""
    mig_enabled: bool | None = None
    """Whether the GPU is cut into slices.  Absent: it cannot be."""
    mig: Annotated[tuple[MigDevice, ...], Field(max_length=16)] = ()
    """Slices, where MIG is on."""
    sharing: Word | None = None
    """mps: processes share it through MPS now.  Absent: none seen; NVML does not tell time-slicing."""
    nvlink_island: Count | None = None
    """GPUs with the same number are joined by NVLink.  Absent: none or unknown."""


class NodeCachePhase(StrEnum):
    """How far the node has got with an artifact."""

    FETCHING = "Fetching"
    READY = "Ready"
    FAILED = "Failed"


class NodeArtifact(Status):
    """The files of one version on this node."""

    digest: Digest
    """The version's artifactDigest."""
    namespace: Word
    """Namespace of the version for which it was fetched first."""
    version: LabelName
    """ModelVersion for which it was fetched first."""
    phase: NodeCachePhase
    """Fetching, Ready (every byte verified) or Failed."""
    bytes: Count | None = None
    """Bytes that are there.  Absent: none."""
    total_bytes: Count | None = None
    """Bytes that are to be there.  Absent: not known yet."""
    message: Message | None = None
    """What went wrong and what to do.  Absent: nothing."""
    verified_at: Instant | None = None
    """When every byte was last verified.  Absent: never."""


class Disk(Status):
    """The disk that holds the store."""

    total_bytes: Count
    """Size of the file system, in bytes."""
    free_bytes: Count
    """Free space, in bytes."""
    store_bytes: Count | None = None
    """Space that the store takes, in bytes.  Absent: not measured."""


class NodeStatus(Status):
    """What the agents of the node report; each writes its own fields."""

    observed_generation: Count | None = None
    """The metadata.generation that this status describes."""
    conditions: Conditions = ()
    """GPUsReadable: whether the agent that reads GPUs can, and if not why."""
    gpus: Annotated[tuple[Gpu, ...], Field(max_length=64), ListMap(("index",))] = ()
    """GPUs from NVML.  Absent: none, or no agent that can read them."""
    product: Line | None = None
    """Product of the GPUs, for people."""
    gpu_count: Count | None = None
    """Number of GPUs."""
    healthy_count: Count | None = None
    """Number of GPUs that may be used."""
    free_memory: Word | None = None
    """Free memory of all GPUs, for people."""
    driver: Word | None = None
    """Version of the driver.  Absent: unknown."""
    cuda: Word | None = None
    """Newest CUDA version that the driver supports.  Absent: unknown."""
    mig_slices: Line | None = None
    """Slices by profile, for people, such as 7 x 1g.10gb.  Absent: none."""
    gpus_observed_at: Instant | None = None
    """When the GPUs were read for this report.  Absent: never."""
    cache: Annotated[tuple[NodeArtifact, ...], Field(max_length=500), ListMap(("digest",))] = ()
    """Artifacts in the node's store."""
    disk: Disk | None = None
    """The disk that holds the store.  Absent: no delivery agent."""
    observed_at: Instant | None = None
    """When the report about cache and disk last changed."""


class ModelNode(Resource):
    """One node that runs an agent of ours; there is nothing to write here for people."""

    names: ClassVar = Names("ModelNode", "modelnodes", "mnode", is_namespaced=False)
    columns: ClassVar = (
        Column("Product", ".status.product"),
        Column("GPUs", ".status.gpuCount", "integer"),
        Column("Free", ".status.freeMemory"),
        Column("Healthy", ".status.healthyCount", "integer"),
        Column("Driver", ".status.driver"),
        Column("MIG", ".status.migSlices", wide=True),
        Column("CUDA", ".status.cuda", wide=True),
    )

    status: NodeStatus = Field(default_factory=NodeStatus)
    """What the agents report.  Absent: none has reported yet."""
