"""llama.cpp: language models in GGUF, on NVIDIA GPUs or CPUs.  Source: research/engines.md 2.1 to 2.5, 4.5.

It has no histograms and counts no errors, so the meter stands in front of it and is judged.
"""

import math

from modelops.engines import pool
from modelops.engines.arguments import Allowed, number_of, refuse_extras, value_of
from modelops.engines.base import (
    GIB,
    LANGUAGE,
    METERED,
    Ask,
    Compute,
    Facts,
    Fault,
    Footprint,
    Launch,
    refuse_context,
    refuse_driver,
    refuse_format,
    refuse_no_adapters,
    refuse_no_file,
    refuse_nodes,
)
from modelops.engines.geometry import Geometry, Layer
from modelops.engines.quantization import bytes_per_parameter
from modelops.engines.weights import loaded_bytes
from modelops.plan import Reason

IMAGE = "ghcr.io/ggml-org/llama.cpp:server-cuda13-b11669"
CPU_IMAGE = "ghcr.io/ggml-org/llama.cpp:server-b11669"
"""For new revisions, what runs keeps the image it has."""
SLOTS = 4
BATCH_TOKENS = 512
CACHE_ELEMENT_BYTES = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}
"""Bytes per cache element by -ctk and -ctv: blocks of 32 with their scales."""

FAULTS = (
    Fault(
        "failed to create_context", "has no room for its cache; lower engine.contextTokens or maxConcurrency"
    ),
    Fault("failed to load model", "cannot read its file; the version is damaged, or of a newer format"),
    Fault("error: invalid argument:", "knows no such argument; use an image of the release that is told"),
    Fault("couldn't bind HTTP server socket", "finds its port taken; leave 8080 of the pod to it"),
)
"""Source: research/engines.md 2.4."""

ARGUMENTS = Allowed(
    engine="LlamaCpp",
    values=frozenset(
        {
            "--batch-size",
            "--cache-reuse",
            "--cache-type-k",
            "--cache-type-v",
            "--chat-template",
            "--flash-attn",
            "--min-p",
            "--n-predict",
            "--pooling",
            "--reasoning-format",
            "--repeat-penalty",
            "--rope-freq-base",
            "--rope-freq-scale",
            "--rope-scaling",
            "--seed",
            "--temp",
            "--threads",
            "--threads-batch",
            "--threads-http",
            "--timeout",
            "--top-k",
            "--top-p",
            "--ubatch-size",
            "-b",
            "-ctk",
            "-ctv",
            "-fa",
            "-n",
            "-s",
            "-t",
            "-tb",
            "-to",
            "-ub",
        }
    ),
    switches=frozenset({"--embeddings", "--jinja", "--no-jinja", "--no-mmap", "--no-warmup", "--reranking"}),
    owned=frozenset(
        {
            "--alias",
            "--ctx-size",
            "--fit",
            "--gpu-layers",
            "--host",
            "--metrics",
            "--model",
            "--n-gpu-layers",
            "--no-ui",
            "--no-webui",
            "--offline",
            "--parallel",
            "--port",
            "--sse-ping-interval",
            "-a",
            "-c",
            "-fit",
            "-m",
            "-ngl",
            "-np",
        }
    ),
    forbidden={
        "--api-key": "since arguments are not secret",
        "--api-key-file": "which closes the engine to the meter",
        "--hf-repo": "since a version is its bytes",
        "--log-file": "which writes prompts to disk",
        "--model-url": "since a version is its bytes",
        "--models-dir": "since one service serves one version",
        "--props": "which lets callers change the engine",
        "--rpc": "which is not made for production",
        "--slot-save-path": "which writes prompts to disk",
        "--verbose": "which writes prompts into logs",
        "-hf": "since a version is its bytes",
        "-mu": "since a version is its bytes",
        "-v": "which writes prompts into logs",
    },
    owned_env=frozenset(),
    # Every argument has a variable LLAMA_ARG_*, some without that start.
    forbidden_env=("GGML_BACKEND_PATH", "HF_TOKEN", "LD_", "LLAMA_"),
    joined=False,
)


class LlamaCpp:
    """Serve a language model with llama-server."""

    name = "LlamaCpp"
    formats = ("GGUF",)
    types = LANGUAGE
    computes_on = Compute.GPUS
    faults = FAULTS
    queries = METERED

    def refuses(self, model: Facts, ask: Ask) -> Reason | None:
        """Refuse what llama-server cannot load, may not be told, or cannot split."""
        image = ask.image or IMAGE
        return (
            refuse_format(self.name, self.formats, model, instead="vLLM for safetensors, else Custom")
            or refuse_no_file(self.name, model)
            or refuse_context(model, ask)
            or refuse_extras(model, ask, ARGUMENTS)
            or refuse_nodes(self.name, model, ask)
            or refuse_no_adapters(self.name, model, ask)
            or _refuse_count(model, ask.gpus)
            or (refuse_driver(model, ask, image) if "cuda13" in image and ask.gpus else None)
        )

    def footprint(self, model: Facts, ask: Ask) -> Footprint | None:
        """Return bytes on each GPU, or of the pod's memory when there is none.

        Slots have separate caches, taken whole at start.  Several GPUs take whole layers each: the fullest
        one counts, and it may hold the output matrix too.
        """
        geometry, tensors = model.layout(), _tensor_bytes(model)
        if geometry is None or tensors is None:
            return None
        context = ask.context_tokens or model.longest_context()
        slots = ask.max_concurrency or SLOTS
        batch = number_of(ask.extra_args, "-ub", "--ubatch-size", default=BATCH_TOKENS)
        key = _element_bytes(ask, "-ctk", "--cache-type-k")
        value = _element_bytes(ask, "-ctv", "--cache-type-v")
        spread = parts(geometry.layers, max(1, ask.gpus))
        one_slot = max(
            pool.cells_bytes(
                part,
                context_tokens=context,
                slots=1,
                batch_tokens=batch,
                key_element_bytes=key,
                value_element_bytes=value,
            )
            for part in spread
        )
        low, high = overhead(geometry, batch)
        weights = weights_share(tensors, geometry, max(1, ask.gpus))
        return Footprint(
            weights_bytes_per_gpu=loaded_bytes(weights, geometry=geometry, quantization=None),
            kv_bytes_per_token=max(sum(at.token_bytes(1, key, value) for at in part) for part in spread),
            kv_bytes_one_request=one_slot,
            kv_bytes_required=slots * one_slot,
            overhead_low_bytes=low,
            overhead_high_bytes=high,
            context_tokens=context,
            max_concurrency=slots,
        )

    def launch(self, model: Facts, ask: Ask) -> Launch:
        """Return the container.  It binds to loopback alone, since the meter faces callers and probes.

        ``--fit off`` makes a plan that was wrong fail plainly: the default shrinks the context in silence.
        """
        context = ask.context_tokens or model.longest_context()
        slots = ask.max_concurrency or SLOTS
        return Launch(
            image=ask.image or (IMAGE if ask.gpus else CPU_IMAGE),
            command=ask.command or ("/app/llama-server",),
            args=(
                *("-m", f"{ask.model_path}/{model.main_file}"),
                *("-a", ask.served_name),
                *("--host", "127.0.0.1"),
                *("--port", "8080"),
                "--metrics",
                "--no-ui",
                "--offline",
                *("-np", str(slots)),
                *("-c", str(context * slots)),  # the total over slots
                *("-ngl", "all" if ask.gpus else "0"),
                *("--fit", "off"),
                # A stream that was cut holds the exit until the next ping, 30 s by default.
                *("--sse-ping-interval", "5"),
                *ask.extra_args,
            ),
            env=dict(ask.env),
            port=8080,
            health_path="/health",
            ready_path="/health",
            startup_seconds=120 + (model.weights_bytes or 0) // ask.read_bytes_per_second,
            shm_bytes=0,
            drain=ask.drain,
            metered=True,
            engine_metrics_path="/metrics",
            writable=(),
        )


def _refuse_count(model: Facts, gpus: int) -> Reason | None:
    if not model.layers or gpus <= model.layers:
        return None
    return Reason(
        "LayersNotEnough",
        f"{model.name}: needs at most one GPU per layer, found {gpus} for {model.layers} layers; "
        "lower accelerator.count",
    )


def _tensor_bytes(model: Facts) -> int | None:
    """Return the bytes of the tensors: of the header, else of as many parameters of a known file type."""
    each = bytes_per_parameter(model.quantization or "F16")
    if model.weights_bytes is not None or not model.parameters or not each:
        return model.weights_bytes
    return math.ceil(each * model.parameters)


def _element_bytes(ask: Ask, *flags: str) -> float:
    return CACHE_ELEMENT_BYTES.get(value_of(ask.extra_args, *flags) or "f16", 4.0)


def parts(layers: tuple[Layer, ...], gpus: int) -> list[tuple[Layer, ...]]:
    """Return the layers of each GPU; only the last may hold fewer."""
    size = math.ceil(len(layers) / gpus)
    return [layers[start : start + size] for start in range(0, len(layers), size)]


def weights_share(total_bytes: int, geometry: Geometry, gpus: int) -> int:
    """Return the part of the GPU with the most layers, and half of the output matrix in f16 on top.

    By layers alone embeddings and output are spread evenly, but the last GPU holds the whole output
    while the embeddings stay on the host: the difference is at most half of the output.
    """
    layers = math.ceil(len(geometry.layers) / gpus)
    if layers == len(geometry.layers):
        return total_bytes
    share = -(-total_bytes * layers // len(geometry.layers))
    return min(total_bytes, share + geometry.vocabulary * geometry.hidden_size)


def overhead(geometry: Geometry, batch_tokens: int) -> tuple[int, int]:
    """Return the compute buffer, and the same with the margin that llama.cpp's own fitting leaves."""
    compute = batch_tokens * (geometry.vocabulary + 10 * geometry.hidden_size) * 4
    return compute, compute + GIB
