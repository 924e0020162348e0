"""``kubectl modelops fit``: does a model run on some GPUs, and how.  Needs no cluster."""

import argparse
import json
import re
import sys
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from modelops.api.quantities import readable_bytes
from modelops.artifacts import huggingface_config
from modelops.cli import flags
from modelops.cli.flags import BAD_INPUT
from modelops.cli.refusal import Refused
from modelops.placement import products, sizing
from modelops.placement.sizing import KV_BYTES, LLAMACPP, SGLANG, VLLM, Answer, Question
from modelops.plan import Reason

MIB = 2**20
LARGEST = 2**53
ONLY = {
    "block_size": (VLLM, SGLANG),
    "batches_in_flight": (VLLM,),
    "prefix_caching": (VLLM,),
}
"""Engines that know a flag, where not all do."""


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of ``kubectl modelops``."""
    parser = flags.command(
        subparsers,
        "fit",
        help_="tell whether a model runs on some GPUs, with the arithmetic; needs no cluster",
        description="Reckon weights, cache and overhead of a model on GPUs of one node: fits, risky or no.\n"
        "Ends with 0 for every verdict and with 2 when the question makes no sense.",
        example="  kubectl modelops fit --config config.json --gpus 8 --gpu H100 --context 8192 -o table",
    )
    parser.add_argument("--config", metavar="FILE", help="the model's config.json; - reads stdin")
    parser.add_argument("--gpus", metavar="N", help="GPUs of one node")
    parser.add_argument(
        "--gpu", metavar="PRODUCT", help="label nvidia.com/gpu.product, or a short name such as H100"
    )
    parser.add_argument("--gpu-memory-mib", metavar="N", help="label nvidia.com/gpu.memory, instead of --gpu")
    parser.add_argument(
        "--weights-bytes", metavar="N", help="sum of the tensors' bytes; default: from the config"
    )
    parser.add_argument(
        "--engine", metavar="|".join(sizing.ENGINES), help="default: vLLM; LlamaCpp for q8_0 and q4_0"
    )
    parser.add_argument("--tensor-parallel", metavar="N", help="default: the fewest GPUs that fit")
    parser.add_argument(
        "--context", dest="context_tokens", metavar="N", help="default: the longest that fits"
    )
    parser.add_argument(
        "--gpu-memory-utilization", metavar="F", help="default: 0.92; SGLang's own, LlamaCpp 1"
    )
    parser.add_argument("--kv-cache-dtype", metavar="|".join(sizing.KV_TYPES), help="default: auto")
    parser.add_argument(
        "--kv-cache-memory-bytes",
        metavar="N",
        help="cache per GPU, in place of utilisation and the overhead's estimate",
    )
    parser.add_argument("--block-size", metavar="N", help="tokens; default: 16, SGLang 1")
    parser.add_argument("--max-batched-tokens", metavar="N", help="default: 2048; LlamaCpp 512")
    parser.add_argument("--batches-in-flight", metavar="N", help="default: 2")
    parser.add_argument("--prefix-caching", action="store_true", help="default: off")
    parser.add_argument("-o", "--output", metavar="json|table", default="json", help="default: json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the answer; a question that makes no sense gets one sentence on stderr."""
    try:
        found = sizing.answer(_question(args))
        if isinstance(found, Reason):
            raise Refused(found.message)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return BAD_INPUT
    print(json.dumps(found.to_wire(), indent=2) if args.output == "json" else _table(found))
    return 0


# --- the question ------------------------------------------------------------------------------------


def _question(args: argparse.Namespace) -> Question:
    if args.output not in ("json", "table"):
        raise Refused(f"-o: needs json or table, found {args.output}; name one of them")
    gpus = _count(args, "gpus")
    if gpus is None:
        raise Refused("--gpus: needs the number of GPUs of one node, found none; give it")
    engine, kv_type = _engine(args)
    memory_bytes, capability = _gpu(args)
    return Question(
        config=_config(args.config),
        gpus=gpus,
        memory_bytes=memory_bytes,
        capability=capability,
        engine=engine,
        tensor_bytes=_count(args, "weights_bytes"),
        tensor_parallel=_count(args, "tensor_parallel"),
        context_tokens=_count(args, "context_tokens", flag="--context"),
        utilization=_share(args),
        kv_type=kv_type,
        kv_bytes=_count(args, "kv_cache_memory_bytes"),
        block_tokens=_count(args, "block_size"),
        batched_tokens=_count(args, "max_batched_tokens"),
        in_flight=_count(args, "batches_in_flight"),
        prefix_caching=args.prefix_caching,
    )


def _config(path: str | None) -> dict[str, Any]:
    if path is None:
        raise Refused("--config: needs a model's config.json, found none; name the file")
    try:
        if path == "-":
            data = sys.stdin.buffer.read(huggingface_config.MAX_CONFIG_BYTES + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(huggingface_config.MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise Refused(
            f"{path}: needs a file that can be read, found {error.strerror or error}; correct --config"
        ) from error
    except ValueError as error:
        raise Refused(f"--config: needs the name of a file, found {error}; correct it") from error
    found = huggingface_config.read(data, path)
    if isinstance(found, Reason):
        wanted, _, _ = found.message.rpartition("; ")
        raise Refused(f"{wanted}; give the model's own config.json")
    return found


def _gpu(args: argparse.Namespace) -> tuple[int, tuple[int, int] | None]:
    """Return the memory of one GPU, and its capability where the product is known."""
    mib = _count(args, "gpu_memory_mib")
    if (args.gpu is None) == (mib is None):
        found = "both" if mib is not None else "none"
        raise Refused(f"--gpu: needs either --gpu or --gpu-memory-mib, found {found}; give one of them")
    if mib is not None:
        return mib * MIB, None
    product = products.product(args.gpu)
    if isinstance(product, Reason):
        raise Refused(product.message)
    return product.memory_bytes, product.capability


def _engine(args: argparse.Namespace) -> tuple[str, str]:
    """Return the engine and its cache type; an engine that nobody named is one that knows the type."""
    kv_type = args.kv_cache_dtype or "auto"
    if kv_type not in sizing.KV_TYPES:
        raise Refused(
            f"--kv-cache-dtype: needs one of {', '.join(sizing.KV_TYPES)}, found {kv_type}; name one of them"
        )
    engine = args.engine or (VLLM if kv_type in KV_BYTES[VLLM] else LLAMACPP)
    if engine not in sizing.ENGINES:
        raise Refused(f"--engine: needs one of {', '.join(sizing.ENGINES)}, found {engine}; name one of them")
    if kv_type not in KV_BYTES[engine]:
        raise Refused(
            f"--kv-cache-dtype: {engine} needs one of {', '.join(KV_BYTES[engine])}, found {kv_type}; "
            "change it or --engine"
        )
    for name, engines in ONLY.items():
        if getattr(args, name) and engine not in engines:
            raise Refused(
                f"{_flag(name)}: needs --engine {' or '.join(engines)}, found {engine}, which has no such "
                "setting; leave it out"
            )
    return engine, kv_type


def _count(args: argparse.Namespace, name: str, *, flag: str = "") -> int | None:
    text = getattr(args, name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,16}", text) or not 0 < int(text) <= LARGEST:
        raise Refused(
            f"{flag or _flag(name)}: needs a whole number above 0, found {_shown(text)}; correct it"
        )
    return int(text)


def _share(args: argparse.Namespace) -> Fraction | None:
    text = args.gpu_memory_utilization
    if text is None:
        return None
    try:
        share = Decimal(text)
    except InvalidOperation:
        share = Decimal("NaN")
    if not share.is_finite() or not 0 < share <= 1 or len(text) > 20:
        raise Refused(
            f"--gpu-memory-utilization: needs a share above 0 and at most 1, found {_shown(text)}; correct it"
        )
    return Fraction(share)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _shown(text: str) -> str:
    return repr(text[:40])


# --- the answer --------------------------------------------------------------------------------------


def _table(found: Answer) -> str:
    wire = found.to_wire()
    rows = [
        ("verdict", wire["verdict"]),
        ("GPUs used", wire["tensorParallel"]),
        ("parameters", _number(wire["parameters"])),
        ("weights per GPU", _bytes(wire["weightsBytesPerGPU"])),
        ("overhead per GPU", _band(wire["overheadBytesPerGPU"])),
        ("cache per GPU", _band(wire["kvBytesPerGPU"])),
        ("cache per token", _bytes(wire["kvBytesPerToken"])),
        ("block", _bytes(wire["bytesPerBlock"])),
        ("blocks", _number(wire["blocks"])),
        ("blocks per request", _number(wire["blocksPerRequest"])),
        ("context", _number(found.context_tokens)),
        ("longest context", _number(wire["maxContextTokens"])),
        ("cache in tokens", _number(wire["kvCacheTokens"])),
        ("requests at a time", f"{wire['concurrency']:.2f}"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join([*(f"{name.ljust(width)}  {value}" for name, value in rows), "", wire["reason"]])


def _number(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _bytes(count: int | None) -> str:
    if count is None:
        return "-"
    return readable_bytes(count) if count >= 0 else f"-{readable_bytes(-count)}"


def _band(band: dict[str, int | None]) -> str:
    if band["low"] == band["high"]:
        return _bytes(band["low"])
    return f"{_bytes(band['low'])} to {_bytes(band['high'])}"
