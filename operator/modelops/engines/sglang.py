"""SGLang: language models in safetensors on NVIDIA GPUs.

Source: SGLang 0.5.23, read and never run; research/engines.md 2.1 to 2.5, 3.2, 4.5.
"""

from modelops.engines import sglang_pool
from modelops.engines.arguments import Allowed, number_of, refuse_extras, value_of
from modelops.engines.base import (
    GIB,
    LANGUAGE,
    Ask,
    CachePool,
    Compute,
    Facts,
    Footprint,
    Gpu,
    Launch,
    Queries,
    Series,
    reading_seconds,
    refuse_code,
    refuse_context,
    refuse_driver,
    refuse_format,
)
from modelops.engines.geometry import Geometry, refuse_split
from modelops.engines.lora import limit, places_bytes, refuse_adapters
from modelops.engines.weights import fullest, loaded_bytes, stage_bytes
from modelops.plan import Reason

IMAGE = "lmsysorg/sglang:v0.5.23"
"""CUDA 13; for new revisions, what runs keeps the image it has."""
MAX_CONCURRENCY = 256
KV_ELEMENT_BYTES = {"fp8_e4m3": 1, "fp8_e5m2": 1, "bf16": 2}
"""By --kv-cache-dtype; any other value is planned like the model's own type, which is no less."""
UNKNOWN_STATIC_PERCENT = 80
"""Share of weights and cache on a GPU that nobody describes."""

LEADER, RANK, GROUP_PORT = "$(LWS_LEADER_ADDRESS)", "$(LWS_WORKER_INDEX)", 5000
"""Set in each pod by LeaderWorkerSet 0.6 and newer, put into arguments by the kubelet."""

TTFT_SECONDS = (
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
    160,
)
E2E_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 60, 120, 240, 480, 960)
"""Bounds of buckets.  SGLang's own start at 100 ms, which hides small models."""
JUDGED = 'endpoint=~"/v1/(chat/)?completions|/v1/responses|/v1/embeddings|/generate"'

ARGUMENTS = Allowed(
    engine="SGLang",
    values=frozenset(
        {
            "--attention-backend",
            "--chunked-prefill-size",
            "--ep-size",
            "--kv-cache-dtype",
            "--log-level",
            "--max-queued-requests",
            "--random-seed",
            "--reasoning-parser",
            "--sampling-backend",
            "--schedule-policy",
            "--tool-call-parser",
            "--watchdog-timeout",
        }
    ),
    switches=frozenset(
        {
            "--disable-cuda-graph",
            "--disable-overlap-schedule",
            "--disable-radix-cache",
            "--enable-cache-report",
            "--is-embedding",
        }
    ),
    owned=frozenset(
        {
            "--bucket-e2e-request-latency",
            "--bucket-time-to-first-token",
            "--context-length",
            "--dist-init-addr",
            "--dp-size",
            "--dtype",
            "--enable-lora",
            "--enable-metrics",
            "--host",
            "--lora-paths",
            "--max-lora-rank",
            "--max-loras-per-batch",
            "--max-running-requests",
            "--max-total-tokens",
            "--mem-fraction-static",
            "--model-path",
            "--nnodes",
            "--node-rank",
            "--port",
            "--pp-size",
            "--served-model-name",
            "--tp",
            "--tp-size",
            "--weight-version",
        }
    ),
    forbidden={
        "--admin-api-key": "since arguments are not secret",
        "--api-key": "since arguments are not secret",
        "--crash-dump-folder": "which writes prompts to disk",
        "--disable-metrics": "which removes every metric that rollouts are judged by",
        "--log-requests": "which writes prompts into logs",
        "--log-requests-level": "which writes prompts into logs",
        "--revision": "since a version is its bytes",
        "--tokenizer-path": "since a version is its bytes",
        "--trust-remote-code": "which runs code that came with the model",
    },
    owned_env=frozenset(
        {
            "DO_NOT_TRACK",
            "HF_HOME",
            "HF_HUB_OFFLINE",
            "HOME",
            "TORCHINDUCTOR_CACHE_DIR",
            "TRANSFORMERS_OFFLINE",
            "TRITON_CACHE_DIR",
            "USER",
        }
    ),
    forbidden_env=("HF_TOKEN", "LD_", "PYTHON", "SGLANG_HEALTH_CHECK_TIMEOUT", "SGL_FORCE_SHUTDOWN"),
    joined=True,
)


class SGLang:
    """Serve a language model with SGLang."""

    name = "SGLang"
    formats = ("safetensors",)
    types = LANGUAGE
    computes_on = Compute.GPUS
    faults = ()
    queries = Queries(
        requests=Series("sglang:http_responses_total", JUDGED),
        errors=(Series("sglang:http_responses_total", f'{JUDGED},status_code=~"5.."'),),
        ttft=Series("sglang:time_to_first_token_seconds_bucket"),
        tpot=Series("sglang:request_time_per_output_token_seconds_bucket"),
        e2e=Series("sglang:e2e_request_latency_seconds_bucket"),
        # Both are raised only when a request ends: windows must be well above its duration.
        prompt_tokens=Series("sglang:prompt_tokens_total"),
        generation_tokens=Series("sglang:generation_tokens_total"),
        running=Series("sglang:num_running_reqs"),
        waiting=Series("sglang:num_queue_reqs"),
        kv_usage=Series("sglang:token_usage"),
        tokens_used=Series("sglang:num_used_tokens"),
        pool=CachePool(Series("sglang:max_total_num_tokens")),
    )

    def refuses(self, model: Facts, ask: Ask) -> Reason | None:
        """Refuse what SGLang cannot load, may not be told, or cannot split."""
        image = ask.image or IMAGE
        return (
            refuse_format(self.name, self.formats, model, instead="LlamaCpp for GGUF, else Custom")
            or refuse_code(self.name, model)
            or refuse_context(model, ask)
            or refuse_extras(model, ask, ARGUMENTS)
            or refuse_adapters(self.name, model, ask)
            or _refuse_count(model, ask.gpus, ask.stages)
            or (refuse_driver(model, ask, image) if image == IMAGE or "cu13" in image else None)
        )

    def footprint(self, model: Facts, ask: Ask) -> Footprint | None:
        """Return bytes on each GPU.  Every layer keeps all tokens, also one that slides.

        Activations and graphs live in what the static share leaves; the band is the CUDA context and what
        communicates between GPUs.  It is an estimate: no published log was read for it.  None for models with
        linear layers too: how many of their states SGLang keeps is not known.
        """
        geometry = model.layout()
        if geometry is None or model.weights_bytes is None or any(at.state for at in geometry.layers):
            return None
        context = ask.context_tokens or model.longest_context()
        size = KV_ELEMENT_BYTES.get(value_of(ask.extra_args, "--kv-cache-dtype") or "auto")
        gpus = max(1, ask.gpus)
        stage = fullest(geometry, ask.stages)
        cell = sglang_pool.cell_bytes(stage, tp=gpus, element_bytes=size)
        more = GIB // 2 if gpus > 1 else 0
        return Footprint(
            weights_bytes_per_gpu=loaded_bytes(
                stage_bytes(model.weights_bytes, geometry, stage),
                geometry=geometry,
                quantization=model.quantization,
                gpus=gpus,
            )
            + places_bytes(model, ask),
            kv_bytes_per_token=cell,
            kv_bytes_one_request=cell * context,
            kv_bytes_required=cell * context,
            overhead_low_bytes=GIB // 2 + more,
            overhead_high_bytes=3 * GIB // 2 + more,
            context_tokens=context,
            max_concurrency=ask.max_concurrency or MAX_CONCURRENCY,
            memory_percent=_static_percent(geometry, ask),
        )

    def launch(self, model: Facts, ask: Ask) -> Launch:
        """Return the container; the static share of memory is the one the plan was made with.

        ``/health`` makes a token and takes up to 20 s: a model-level answer for the start and for life,
        while ``/ready`` is only a flag that falls when the pod leaves.
        """
        startup = _startup_seconds(model, ask)
        args = (
            *("--model-path", ask.model_path),
            *("--served-model-name", ask.served_name),
            *("--host", "0.0.0.0"),
            *("--port", "8000"),
            *("--tp-size", str(ask.gpus)),
            *("--context-length", str(ask.context_tokens or model.longest_context())),
            *("--max-running-requests", str(ask.max_concurrency or MAX_CONCURRENCY)),
            *("--mem-fraction-static", _fraction(model, ask)),
            *("--weight-version", model.name),
            "--enable-metrics",
            *("--bucket-time-to-first-token", *map(str, TTFT_SECONDS)),
            *("--bucket-e2e-request-latency", *map(str, E2E_SECONDS)),
            *_adapter_args(ask),
            *(("--dtype", "half") if _lacks_bfloat16(ask.gpu) else ()),
            *ask.extra_args,
        )
        is_group = ask.stages > 1
        return Launch(
            image=ask.image or IMAGE,
            command=ask.command or ("sglang", "serve"),
            args=(*args, *(_group_args(ask.stages, "0") if is_group else ())),
            # The others answer every probe with 200, and end when their leader tells them.
            worker_args=(*args, *_group_args(ask.stages, RANK)) if is_group else (),
            env={
                **ask.env,
                "DO_NOT_TRACK": "1",
                "HF_HOME": "/cache/hf",
                "HF_HUB_OFFLINE": "1",
                "HOME": "/cache/home",
                "TORCHINDUCTOR_CACHE_DIR": "/cache/inductor",
                "TRANSFORMERS_OFFLINE": "1",
                "TRITON_CACHE_DIR": "/cache/triton",
                "USER": "sglang",  # getpass fails for a user that /etc/passwd does not know
            },
            port=8000,
            health_path="/health",
            ready_path="/ready",
            startup_seconds=startup,
            shm_bytes=min(32, 8 * max(1, ask.gpus)) * GIB,
            drain=ask.drain,
            metered=False,
            engine_metrics_path="/metrics",
            writable=("/cache",),
            health_timeout_seconds=25,
            health_period_seconds=30,
            startup_timeout_seconds=25,
        )


def _refuse_count(model: Facts, gpus: int, pipeline: int) -> Reason | None:
    """Refuse counts over which the model cannot be split."""
    if gpus < 1:
        return Reason(
            "GpuNeeded", f"{model.name}: SGLang needs at least 1 GPU, found 0; set accelerator.count to Auto"
        )
    geometry = model.layout()
    return refuse_split(model.name, geometry, gpus, pipeline) if geometry else None


def _static_percent(geometry: Geometry | None, ask: Ask) -> int:
    """Return the whole percents that SGLang would take of the GPU by itself, rounded down."""
    if ask.gpu is None or geometry is None:
        return UNKNOWN_STATIC_PERCENT
    chunk = number_of(ask.extra_args, "--chunked-prefill-size", default=0)
    share = sglang_pool.static_fraction(
        geometry,
        memory_bytes=ask.gpu.memory_bytes,
        tp=max(1, ask.gpus),
        pp=ask.stages,
        chunk_tokens=chunk or None,
    )
    return max(1, int(100 * share))


def _fraction(model: Facts, ask: Ask) -> str:
    """Return the share of the whole GPU: time slices see all of its memory, and must leave the rest."""
    shares = ask.gpu.shares if ask.gpu and ask.gpu.is_time_sliced else 1
    return f"{_static_percent(model.layout(), ask) / 100 / shares:.4f}".rstrip("0")


def _adapter_args(ask: Ask) -> tuple[str, ...]:
    """Return what loads the adapters at start."""
    if not ask.adapters:
        return ()
    paths = (f"{adapter.name}={adapter.path}" for adapter in ask.adapters)
    limits = ("--max-loras-per-batch", str(len(ask.adapters)), "--max-lora-rank", str(limit(ask)))
    return ("--enable-lora", *limits, "--lora-paths", *paths)


def _group_args(nodes: int, rank: str) -> tuple[str, ...]:
    """Return how the pods of a group find each other, and that each holds a stage of the layers."""
    meeting = ("--dist-init-addr", f"{LEADER}:{GROUP_PORT}")
    return ("--pp-size", str(nodes), "--nnodes", str(nodes), "--node-rank", rank, *meeting)


def _lacks_bfloat16(gpu: Gpu | None) -> bool:
    return gpu is not None and gpu.capability is not None and gpu.capability < (8, 0)


def _startup_seconds(model: Facts, ask: Ask) -> int:
    """Return reading, then compiling and capturing graphs, then the warm-up of experts."""
    geometry = model.layout()
    return 300 + reading_seconds(model, ask) + (300 if geometry and geometry.experts else 0)
