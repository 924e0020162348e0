"""Accept the flags that each engine accepts, and refuse others as the engine does."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

# Source: research/engines.md 2.1 and 2.5.  Only what the stand-in acts upon ends up in Settings.
_SWITCHES = {
    "vllm": """--trust-remote-code --enable-expert-parallel --enable-lora --enable-auto-tool-choice
        --enforce-eager --disable-log-stats --headless --enable-prefix-caching
        --no-enable-prefix-caching""",
    "sglang": """--trust-remote-code --enable-metrics --enable-dp-attention --enable-lora
        --disable-cuda-graph --enable-metrics-for-all-schedulers""",
    "llamacpp": """--metrics --no-ui --no-webui --offline --jinja --no-jinja --kv-unified --slots --no-slots
        --no-mmap --mlock --embeddings --log-disable""",
    "triton": "--disable-auto-complete-config",
}
_VALUES = {
    "vllm": """--host --port --revision --tokenizer --tokenizer-revision --code-revision
        --tensor-parallel-size,-tp --pipeline-parallel-size,-pp --data-parallel-size,-dp
        --decode-context-parallel-size --max-model-len --max-num-seqs --max-num-batched-tokens
        --max-num-queued-reqs --gpu-memory-utilization --kv-cache-memory-bytes --dtype --quantization
        --kv-cache-dtype --load-format --shutdown-timeout --max-loras --max-lora-rank --tool-call-parser
        --reasoning-parser --chat-template --api-key --custom-histogram-buckets
        --disable-access-log-for-endpoints --block-size --seed --nnodes --node-rank --master-addr
        --master-port --distributed-executor-backend""",
    "sglang": """--host --port --model-path --revision --weight-version --tp-size,--tp --pp-size --dp-size
        --ep-size --context-length --max-running-requests --max-queued-requests --chunked-prefill-size
        --mem-fraction-static --max-total-tokens --dtype --quantization --kv-cache-dtype --load-format
        --max-loras-per-batch --max-lora-rank --tool-call-parser --reasoning-parser --chat-template
        --api-key --admin-api-key --watchdog-timeout --nnodes --node-rank --dist-init-addr
        --served-model-name --random-seed""",
    "llamacpp": """--host --port -m,--model -a,--alias -c,--ctx-size -np,--parallel -b,--batch-size
        -ub,--ubatch-size -ngl,--gpu-layers,--n-gpu-layers -sm,--split-mode -ts,--tensor-split --fit
        --sse-ping-interval -ctk,--cache-type-k -ctv,--cache-type-v --lora --chat-template
        --chat-template-file --reasoning-format --api-key -t,--threads --threads-http
        -fa,--flash-attn --kv-unified-per-slot -n,--n-predict -s,--seed --temp""",
    "triton": """--model-repository,--model-store --model-control-mode --load-model --allow-http
        --http-address --http-port --http-thread-count --allow-grpc --grpc-address --grpc-port
        --allow-metrics --metrics-address --metrics-port --metrics-config --allow-gpu-metrics
        --allow-cpu-metrics --strict-readiness --exit-on-error --exit-timeout-secs --backend-config
        --backend-directory --rate-limit --rate-limit-resource --cache-config --log-verbose
        --pinned-memory-pool-byte-size --cuda-memory-pool-byte-size --model-load-thread-count
        --buffer-manager-thread-count --min-supported-compute-capability""",
}
_LISTS = {
    "vllm": "--served-model-name --lora-modules",
    "sglang": "--lora-paths --extra-metric-labels",
    "llamacpp": "",
    "triton": "",
}
_BUCKETS = "--bucket-time-to-first-token --bucket-inter-token-latency --bucket-e2e-request-latency"
_PROGRAMS = {
    "vllm": (("vllm", "serve"), ("serve",)),
    "sglang": (("sglang", "serve"), ("serve",)),
    "llamacpp": (("/app/llama-server",), ("llama-server",)),
    "triton": (("tritonserver",),),
}
_PORTS = {"vllm": 8000, "sglang": 30000, "llamacpp": 8080, "triton": 8000}
_HOSTS = {"vllm": "0.0.0.0", "sglang": "127.0.0.1", "llamacpp": "127.0.0.1", "triton": "0.0.0.0"}
_MODELS = {"sglang": "model_path", "triton": "model_repository"}
_ADAPTERS = {"vllm": "lora_modules", "sglang": "lora_paths"}
_SLOTS = {"vllm": 256, "sglang": 64, "llamacpp": 4, "triton": 4}


class BadFlags(Exception):
    """The engine would not start with these flags."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Settings:
    """What the stand-in took from the engine's flags.  ``context_tokens`` is of one request."""

    engine: str
    model: str
    names: tuple[str, ...]
    host: str
    port: int
    slots: int
    context_tokens: int
    has_metrics: bool
    api_key: str | None = None
    shutdown_timeout: float = 0.0
    ping_seconds: float = 30.0
    weight_version: str = "default"
    memory_share: str = "0.92"
    adapters: tuple[str, ...] = ()
    """Names of the LoRA adapters that it was started with."""
    metrics_port: int | None = None
    """None: the metrics are on the same port."""


def read(argv: list[str]) -> Settings:
    """Read ``--as ENGINE`` and the engine's own arguments.

    Raises:
        BadFlags: with the words and the exit code of the engine.
    """
    if len(argv) < 2 or argv[0] != "--as" or argv[1] not in _PORTS:
        raise BadFlags(f"stand-in: wants --as {'|'.join(_PORTS)} first, found {argv[:2]}; add it", 2)
    engine, rest = argv[1], argv[2:]
    for program in _PROGRAMS[engine]:
        if tuple(rest[: len(program)]) == program:
            rest = rest[len(program) :]
            break
    found = vars(_parser(engine).parse_args(rest))
    return _settings(engine, {name: value for name, value in found.items() if value is not None})


class _Parser(argparse.ArgumentParser):
    engine = ""

    def error(self, message: str) -> NoReturn:
        if self.engine == "llamacpp":
            raise BadFlags(f"error: invalid argument: {message.rpartition(': ')[2]}", 1)
        raise BadFlags(f"{self.engine}: error: {message}", 2)


def _parser(engine: str) -> _Parser:
    parser = _Parser(allow_abbrev=False, add_help=False)
    parser.engine = engine
    for flag in _SWITCHES[engine].split():
        parser.add_argument(flag, action="store_true", default=None)
    for names in _VALUES[engine].split():
        parser.add_argument(*sorted(names.split(","), key=len, reverse=True))
    for flag in _LISTS[engine].split() + (_BUCKETS.split() if engine == "sglang" else []):
        parser.add_argument(flag, nargs="+")
    if engine == "vllm":
        # Absent, vLLM would serve a default model without a word; here that is a refusal.
        parser.add_argument("model")
    return parser


def _settings(engine: str, found: dict[str, object]) -> Settings:
    def text(name: str, default: str = "") -> str:
        return str(found.get(name, default))

    def number(name: str, default: int) -> int:
        return int(text(name, str(default)))

    try:
        slots, total = _sizes(engine, number)
        model = text(_MODELS.get(engine, "model"))
        if not model:
            raise BadFlags(f"{engine}: wants a model, found none; name its path", 1)
        if engine == "triton":
            return _triton(text, number)
        return Settings(
            engine=engine,
            model=model,
            names=_names(engine, found) or (model,),
            host=text("host", _HOSTS[engine]),
            port=number("port", _PORTS[engine]),
            slots=slots,
            context_tokens=total,
            has_metrics=_has_metrics(engine, found),
            api_key=text("api_key") or None,
            shutdown_timeout=float(text("shutdown_timeout", "0")),
            ping_seconds=float(text("sse_ping_interval", "30")),
            weight_version=text("weight_version", "default"),
            memory_share=text("gpu_memory_utilization", "0.92"),
            adapters=_adapters(engine, found),
        )
    except ValueError as error:
        raise BadFlags(f"{engine}: error: wants a number: {error}", 2) from error


def _triton(text: Callable[[str], str], number: Callable[[str, int], int]) -> Settings:
    """Return the settings of Triton; its models are named by the folders of the repository."""
    folder = Path(text("model_repository"))
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir())) if folder.is_dir() else ()
    return Settings(
        engine="triton",
        model=str(folder),
        names=names or ("model",),
        host=text("http_address") or _HOSTS["triton"],
        port=number("http_port", _PORTS["triton"]),
        slots=_SLOTS["triton"],
        context_tokens=2**31,
        has_metrics=text("allow_metrics") != "false",
        shutdown_timeout=float(text("exit_timeout_secs") or "30"),
        metrics_port=number("metrics_port", 8002),
    )


def _sizes(engine: str, number: Callable[[str, int], int]) -> tuple[int, int]:
    """Return slots and the context of one request; llama-server divides its context over the slots."""
    if engine == "llamacpp":
        slots = number("parallel", _SLOTS[engine])
        return slots, number("ctx_size", 4096) // slots
    if engine == "sglang":
        return number("max_running_requests", _SLOTS[engine]), number("context_length", 4096)
    return number("max_num_seqs", _SLOTS[engine]), number("max_model_len", 4096)


def _names(engine: str, found: dict[str, object]) -> tuple[str, ...]:
    if engine == "llamacpp":
        return tuple(str(found.get("alias", "")).split(",")) if "alias" in found else ()
    names = found.get("served_model_name", ())
    return (names,) if isinstance(names, str) else tuple(str(name) for name in _each(names))


def _adapters(engine: str, found: dict[str, object]) -> tuple[str, ...]:
    """Return the names of the adapters; one whose folder holds none ends the start, as it does vLLM's."""
    listed = [str(item).partition("=") for item in _each(found.get(_ADAPTERS.get(engine, ""), ()))]
    if listed and "enable_lora" not in found:
        raise BadFlags(f"{engine}: adapters need --enable-lora", 1)
    for name, _, path in listed:
        if not (Path(path) / "adapter_config.json").is_file():
            raise BadFlags(f"Loading lora {name} failed: No adapter found for {path}", 1)
    limit = int(str(found.get("max_loras", found.get("max_loras_per_batch", "1"))))
    if len(listed) > limit:
        raise BadFlags(f"{engine}: wants at most {limit} adapters, found {len(listed)}", 1)
    return tuple(name for name, _, _ in listed)


def _each(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _has_metrics(engine: str, found: dict[str, object]) -> bool:
    if engine == "vllm":
        return "disable_log_stats" not in found
    return ("enable_metrics" if engine == "sglang" else "metrics") in found
