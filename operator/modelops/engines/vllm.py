"""vLLM: language models in safetensors on NVIDIA GPUs.  Source: research/engines.md 2.1 to 2.5, 4."""

import math

from modelops.engines import pool
from modelops.engines.arguments import Allowed, number_of, refuse_extras, value_of
from modelops.engines.base import (
    GIB,
    LANGUAGE,
    Ask,
    CachePool,
    Compute,
    Facts,
    Fault,
    Footprint,
    Gpu,
    Launch,
    Queries,
    Series,
    refuse_code,
    refuse_context,
    refuse_driver,
    refuse_format,
)
from modelops.engines.geometry import Geometry, Kind, Layer, refuse_split
from modelops.engines.lora import limit, places_bytes, refuse_adapters
from modelops.engines.quantization import bytes_per_parameter
from modelops.engines.weights import fullest, loaded_bytes, overhead_bytes, stage_bytes
from modelops.plan import Reason

IMAGE = "vllm/vllm-openai:v0.33.0"
"""CUDA 13; for new revisions, what runs keeps the image it has."""
MEMORY_PERCENT = 92
MAX_CONCURRENCY = 256
LARGE_GPU_BYTES = 70 * GIB
BATCHED_TOKENS, BATCHED_TOKENS_LARGE = 2048, 8192
KV_ELEMENT_BYTES = {"fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1, "bfloat16": 2}
"""By --kv-cache-dtype; any other value is planned like the model's own type, which is no less."""
BFLOAT16_CAPABILITY = (8, 0)
LEADER, RANK, GROUP_PORT = "$(LWS_LEADER_ADDRESS)", "$(LWS_WORKER_INDEX)", 29501
"""Set in each pod by LeaderWorkerSet 0.6 and newer, put into arguments by the kubelet."""
WAIT_FOR_LEADER = (
    "python3",
    "-c",
    "import os, socket, time\n"
    "missed = 0\n"
    "while missed < 3:\n"
    "    try:\n"
    "        socket.create_connection((os.environ['LWS_LEADER_ADDRESS'], 8000), 5).close()\n"
    "        missed = 0\n"
    "    except OSError:\n"
    "        missed += 1\n"
    "    time.sleep(1)\n",
)
"""A worker leaves after its leader has: it ends at once when it is told to, and requests with it."""
LEAST_CAPABILITY = {
    "gptq": (6, 0),
    "compressed-tensors": (7, 0),
    "awq": (7, 5),
    "fp8": (7, 5),
    "fbgemm_fp8": (8, 0),
    "mxfp4": (8, 0),
    "experts_int8": (8, 0),
    "fp_quant": (10, 0),
}
"""Oldest compute capability by quantisation.  Source: vLLM 0.33; research/engines.md 4.8."""

FAULTS = (
    Fault("To serve at least one request with the model's max seq len", "lower engine.contextTokens"),
    Fault("No available memory for the cache blocks", "has no room for a cache; use a larger GPU or more"),
    Fault("is less than desired GPU memory utilization", "shares its GPU with another process; end that"),
    Fault("must be divisible by tensor parallel size", "set accelerator.count to Auto"),
    Fault("Minimum capability:", "needs a newer GPU for this quantization"),
    Fault("trust_remote_code=True", "needs code of the model; use an architecture that vLLM knows"),
    Fault("LocalEntryNotFoundError", "misses files; widen the patterns of the version's source"),
    Fault("unrecognized arguments:", "knows no such argument; use an image of the release that is told"),
)
"""Source: research/engines.md 2.4."""

ARGUMENTS = Allowed(
    engine="vLLM",
    values=frozenset(
        {
            "--chat-template-content-format",
            "--custom-histogram-buckets",
            "--generation-config",
            "--kv-cache-dtype",
            "--limit-mm-per-prompt",
            "--max-logprobs",
            "--max-num-batched-tokens",
            "--max-num-queued-reqs",
            "--override-generation-config",
            "--reasoning-parser",
            "--scheduling-policy",
            "--seed",
            "--tool-call-parser",
            "--uvicorn-log-level",
        }
    ),
    switches=frozenset(
        {
            "--enable-auto-tool-choice",
            "--enable-expert-parallel",
            "--enable-prefix-caching",
            "--enable-prompt-tokens-details",
            "--enforce-eager",
            "--no-enable-prefix-caching",
        }
    ),
    owned=frozenset(
        {
            "--disable-access-log-for-endpoints",
            "--dtype",
            "--gpu-memory-utilization",
            "--enable-lora",
            "--host",
            "--kv-cache-memory-bytes",
            "--headless",
            "--master-addr",
            "--master-port",
            "--nnodes",
            "--node-rank",
            "--lora-modules",
            "--max-lora-rank",
            "--max-loras",
            "--max-model-len",
            "--max-num-seqs",
            "--model",
            "--pipeline-parallel-size",
            "--port",
            "--served-model-name",
            "--shutdown-timeout",
            "--tensor-parallel-size",
            "-pp",
            "-tp",
        }
    ),
    forbidden={
        "--allowed-local-media-path": "which lets callers read files of the pod",
        "--api-key": "since arguments are not secret",
        "--code-revision": "since a version is its bytes",
        "--disable-log-stats": "which removes every metric that rollouts are judged by",
        "--enable-log-requests": "which writes prompts into logs",
        "--middleware": "which loads code into the engine",
        "--revision": "since a version is its bytes",
        "--tokenizer-revision": "since a version is its bytes",
        "--trust-remote-code": "which runs code that came with the model",
    },
    owned_env=frozenset(
        {
            "DO_NOT_TRACK",
            "HF_HOME",
            "HF_HUB_OFFLINE",
            "HOME",
            "TRANSFORMERS_OFFLINE",
            "USER",
            "VLLM_CACHE_ROOT",
            "VLLM_ENGINE_READY_TIMEOUT_S",
            "VLLM_NO_USAGE_STATS",
        }
    ),
    forbidden_env=(
        "HF_TOKEN",
        "LD_",
        "PYTHON",
        "VLLM_ALLOW_",
        "VLLM_API_KEY",
        "VLLM_PLUGINS",
        "VLLM_SERVER_",
    ),
    joined=True,
)


class VLLM:
    """Serve a language model with vLLM."""

    name = "vLLM"
    formats = ("safetensors",)
    types = LANGUAGE
    computes_on = Compute.GPUS
    faults = FAULTS
    queries = Queries(
        requests=Series(
            "http_requests_total", 'handler=~"/v1/(chat/)?completions|/v1/responses|/v1/embeddings"'
        ),
        errors=(
            Series(
                "http_requests_total",
                'handler=~"/v1/(chat/)?completions|/v1/responses|/v1/embeddings",status="5xx"',
            ),
            # Failures inside a stream have a 200 in the HTTP counter.
            Series("vllm:request_success_total", 'finished_reason="error"'),
        ),
        ttft=Series("vllm:time_to_first_token_seconds_bucket"),
        tpot=Series("vllm:request_time_per_output_token_seconds_bucket"),
        e2e=Series("vllm:e2e_request_latency_seconds_bucket"),
        prompt_tokens=Series("vllm:prompt_tokens_total"),
        generation_tokens=Series("vllm:generation_tokens_total"),
        running=Series("vllm:num_requests_running"),
        waiting=Series("vllm:num_requests_waiting"),
        kv_usage=Series("vllm:kv_cache_usage_perc"),
        # All numbers are labels; releases before 0.32 have the blocks alone.
        pool=CachePool(Series("vllm:cache_config_info"), "kv_cache_size_tokens", "num_gpu_blocks"),
    )

    def refuses(self, model: Facts, ask: Ask) -> Reason | None:
        """Refuse what vLLM cannot load, may not be told, or cannot split."""
        image = ask.image or IMAGE
        return (
            refuse_format(self.name, self.formats, model, instead="LlamaCpp for GGUF, else Custom")
            or refuse_code(self.name, model)
            or refuse_context(model, ask)
            or refuse_extras(model, ask, ARGUMENTS)
            or refuse_adapters(self.name, model, ask)
            or _refuse_count(model, ask.gpus, ask.stages)
            or _refuse_capability(model, ask.gpu)
            or (refuse_driver(model, ask, image) if image == IMAGE or "cu13" in image else None)
        )

    def footprint(self, model: Facts, ask: Ask) -> Footprint | None:
        """Return bytes on each GPU: its share of the weights, its part of the cache, the overhead band.

        One request of the whole context must fit, and the null block that vLLM keeps empty.
        """
        geometry, tensors = model.layout(), _tensor_bytes(model)
        if geometry is None or tensors is None:
            return None
        context = ask.context_tokens or model.longest_context()
        concurrency = ask.max_concurrency or MAX_CONCURRENCY
        size = KV_ELEMENT_BYTES.get(value_of(ask.extra_args, "--kv-cache-dtype") or "auto")
        stage = fullest(geometry, ask.stages)
        paged = pool.paging(
            stage,
            context_tokens=context,
            batched_tokens=_batched_tokens(ask),
            tp=ask.gpus,
            element_bytes=size,
            in_flight=max(2, ask.stages),
        )
        weights = loaded_bytes(
            stage_bytes(tensors, geometry, stage),
            geometry=geometry,
            quantization=model.quantization,
            gpus=ask.gpus,
        )
        weights += places_bytes(model, ask)
        low, high = overhead_bytes(weights, geometry=geometry, gpus=ask.gpus, sequences=concurrency)
        return Footprint(
            weights_bytes_per_gpu=weights,
            kv_bytes_per_token=stage.token_bytes(ask.gpus, size),
            kv_bytes_one_request=paged.request_blocks * paged.block_bytes,
            kv_bytes_required=paged.required_bytes(),
            overhead_low_bytes=low,
            overhead_high_bytes=high,
            context_tokens=context,
            max_concurrency=concurrency,
            memory_percent=MEMORY_PERCENT,
        )

    def launch(self, model: Facts, ask: Ask) -> Launch:
        """Return the container; batch size and memory share are the ones the plan was made with."""
        startup = _startup_seconds(model, ask)
        drain = int(ask.drain.total_seconds())
        args = (
            ask.model_path,
            f"--served-model-name={ask.served_name}",
            "--host=0.0.0.0",
            "--port=8000",
            f"--tensor-parallel-size={ask.gpus}",
            *([f"--pipeline-parallel-size={ask.stages}"] if ask.stages > 1 else []),
            f"--max-model-len={ask.context_tokens or model.longest_context()}",
            f"--max-num-seqs={ask.max_concurrency or MAX_CONCURRENCY}",
            *_batch_args(ask),
            f"--gpu-memory-utilization={_utilization(ask.gpu)}",
            f"--shutdown-timeout={drain}",
            "--disable-access-log-for-endpoints=/health,/metrics",
            *_adapter_args(ask),
            *(["--dtype=half"] if _lacks_bfloat16(ask.gpu) else []),
            *ask.extra_args,
        )
        is_group = ask.stages > 1
        return Launch(
            image=ask.image or IMAGE,
            command=ask.command or ("vllm", "serve"),
            args=(*args, *(_group_args(ask.stages, "0") if is_group else ())),
            worker_args=(*args, *_group_args(ask.stages, RANK), "--headless") if is_group else (),
            worker_pre_stop=WAIT_FOR_LEADER if is_group else (),
            env={
                **ask.env,
                "DO_NOT_TRACK": "1",
                "HF_HOME": "/cache/hf",
                "HF_HUB_OFFLINE": "1",
                "HOME": "/cache/home",
                "TRANSFORMERS_OFFLINE": "1",
                "USER": "vllm",  # getpass fails for a user that /etc/passwd does not know
                "VLLM_CACHE_ROOT": "/cache/vllm",
                # vLLM ends a start of its own that takes longer than 600 s.
                "VLLM_ENGINE_READY_TIMEOUT_S": str(startup),
                "VLLM_NO_USAGE_STATS": "1",
            },
            port=8000,
            health_path="/health",
            ready_path="/health",
            startup_seconds=startup,
            shm_bytes=max(2, 4 * ask.gpus) * GIB,
            drain=ask.drain,
            metered=False,
            engine_metrics_path="/metrics",
            writable=("/cache",),
        )


def _refuse_count(model: Facts, gpus: int, pipeline: int) -> Reason | None:
    """Refuse counts over which the model cannot be split."""
    if gpus < 1:
        return Reason(
            "GpuNeeded", f"{model.name}: vLLM needs at least 1 GPU, found 0; set accelerator.count to Auto"
        )
    geometry = model.layout() or _heads_alone(model)
    return refuse_split(model.name, geometry, gpus, pipeline) if geometry else None


def _heads_alone(model: Facts) -> Geometry | None:
    """Return what a split must divide, where the rest of the model is not known."""
    if not model.attention_heads:
        return None
    heads = model.kv_heads or model.attention_heads
    return Geometry((Layer(Kind.FULL, heads),), 0, model.attention_heads, heads, 0, 0)


def _refuse_capability(model: Facts, gpu: Gpu | None) -> Reason | None:
    quantization = (model.quantization or "").lower()
    least = LEAST_CAPABILITY.get(quantization)
    if gpu is None or gpu.capability is None or least is None or gpu.capability >= least:
        return None
    return Reason(
        "CapabilityTooLow",
        f"{model.name}: {quantization} needs compute capability {least[0]}.{least[1]}, found "
        f"{gpu.capability[0]}.{gpu.capability[1]} of {gpu.product}; use a newer GPU",
    )


def _adapter_args(ask: Ask) -> tuple[str, ...]:
    """Return what loads the adapters at start; callers load none, since the switch for that stays off."""
    if not ask.adapters:
        return ()
    modules = (f"{adapter.name}={adapter.path}" for adapter in ask.adapters)
    limits = (f"--max-loras={len(ask.adapters)}", f"--max-lora-rank={limit(ask)}")
    return ("--enable-lora", *limits, "--lora-modules", *modules)


def _group_args(nodes: int, rank: str) -> tuple[str, ...]:
    """Return how the pods of a group find each other; LeaderWorkerSet sets the variables."""
    leader = f"--master-addr={LEADER}"
    return (f"--nnodes={nodes}", f"--node-rank={rank}", leader, f"--master-port={GROUP_PORT}")


def _lacks_bfloat16(gpu: Gpu | None) -> bool:
    return gpu is not None and gpu.capability is not None and gpu.capability < BFLOAT16_CAPABILITY


def _tensor_bytes(model: Facts) -> int | None:
    """Return the bytes of the tensors: of the files, else of as many parameters of a known type."""
    if model.weights_bytes is not None or not model.parameters:
        return model.weights_bytes
    each = bytes_per_parameter(model.quantization)
    return math.ceil(each * model.parameters) if each else None


def _batched_tokens(ask: Ask) -> int:
    is_large = ask.gpu is not None and ask.gpu.memory_bytes >= LARGE_GPU_BYTES
    default = BATCHED_TOKENS_LARGE if is_large else BATCHED_TOKENS
    # vLLM refuses a batch smaller than the number of sequences.
    default = max(default, ask.max_concurrency or 0)
    return number_of(ask.extra_args, "--max-num-batched-tokens", default=default)


def _batch_args(ask: Ask) -> tuple[str, ...]:
    if value_of(ask.extra_args, "--max-num-batched-tokens"):
        return ()
    return (f"--max-num-batched-tokens={_batched_tokens(ask)}",)


def _utilization(gpu: Gpu | None) -> str:
    """Return the share of the whole GPU: time slices see all of its memory, and must leave the rest."""
    shares = gpu.shares if gpu and gpu.is_time_sliced else 1
    return f"{MEMORY_PERCENT / 100 / shares:.4f}".rstrip("0")


def _startup_seconds(model: Facts, ask: Ask) -> int:
    """Return reading, then compiling and capturing graphs, then the warm-up of experts."""
    reading = (model.weights_bytes or 0) // ask.read_bytes_per_second
    geometry = model.layout()
    return 300 + reading + (300 if geometry and geometry.experts else 0)
