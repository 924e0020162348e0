"""What a model takes of each GPU besides its cache: loaded weights, and the band of everything else.

Source: research/engines.md 4.2 and 4.6.
"""

from dataclasses import replace

from modelops.engines.geometry import Geometry, stages

GIB = 2**30
LOAD_PERMILLE = {"dense": 1010, "experts": 1020, "mxfp4": 1085}
"""Bytes in memory per 1000 bytes of tensors."""
SEQUENCES = 256
"""With more at a time the sampler's buffers count too."""


def loaded_bytes(
    tensor_bytes: int, *, geometry: Geometry | None, quantization: str | None, gpus: int = 1
) -> int:
    """Return the bytes that the tensors take on each of *gpus* once they are loaded and repacked."""
    kind = "experts" if geometry and geometry.experts else "dense"
    if (quantization or "").lower() == "mxfp4":
        kind = "mxfp4"
    return -(-tensor_bytes * LOAD_PERMILLE[kind] // (1000 * gpus))


def fullest(geometry: Geometry, pipeline: int) -> Geometry:
    """Return the pipeline stage whose layers keep the most for every token."""
    if pipeline == 1:
        return geometry
    parts = stages(geometry.layers, pipeline)
    return replace(geometry, layers=max(parts, key=lambda part: sum(at.token_bytes() for at in part)))


def stage_bytes(tensor_bytes: int, geometry: Geometry, stage: Geometry) -> int:
    """Return the tensors of a stage: its layers, and the embeddings or the output beside them."""
    if stage is geometry:
        return tensor_bytes
    share = -(-tensor_bytes * len(stage.layers) // len(geometry.layers))
    return min(tensor_bytes, share + geometry.vocabulary * geometry.hidden_size * 2)


def overhead_bytes(
    weights_bytes_per_gpu: int, *, geometry: Geometry, gpus: int = 1, sequences: int = SEQUENCES
) -> tuple[int, int]:
    """Return the least and the most of what is neither weights nor cache, on each of *gpus*.

    A band, since no constant meets the published logs: they are few, and what an engine reports after its
    start matters more.
    """
    low = (15 if gpus > 1 else 12) * GIB // 10
    share = 12 if geometry.experts else 5
    high = 3 * GIB // 2 + weights_bytes_per_gpu * share // 100 + (GIB // 2 if gpus > 1 else 0)
    return low, high + max(0, sequences - SEQUENCES) * geometry.vocabulary * 8
