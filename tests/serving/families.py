"""What each engine is started with for each family of models: records as a plan makes them."""

import json
import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from modelops.engines import by_name
from modelops.engines.base import Ask, Compute, Engine, Facts
from modelops.engines.geometry import Geometry, read
from modelops.engines.parameters import parameters, tensor_bytes
from modelops.engines.quantization import bytes_per_parameter
from modelops.placement.demand import Demand
from modelops.placement.fit import Placement, choose
from modelops.placement.inventory import NodeRow, inventory
from modelops.plan import Manifest, Reason
from modelops.serving.groups import workload
from modelops.serving.manifests import Images, Owner, Revision

CONFIGS = Path(__file__).parents[1] / "data" / "hf-configs"
OWNER = Owner("quickstart", "chat", "c1f93f66-4091-57fb-85b6-be35191b25da")
DIGEST = "sha256:" + "1a" * 32
LANGUAGE = {
    "dense": "qwen2.5_7b",
    "dense-large": "qwen2.5_72b",
    "experts": "qwen3_30b",
    "experts-mxfp4-half-sliding": "gpt_oss_120b",
    "fp8-blocks": "llama3_1_405b",
    "sliding": "mistral",
    "sliding-and-full": "gemma3_text",
}
"""Real config.json files of Hugging Face, by what is special about the model."""
TABULAR = {
    "Predictive": ("skops", "ONNX", "XGBoost", "LightGBM", "rules-json", "pickle"),
    "MLServer": ("pickle", "XGBoost", "LightGBM"),
    "Triton": ("ONNX", "Triton"),
}
FILES = {
    "skops": "model.skops",
    "ONNX": "model.onnx",
    "XGBoost": "model.ubj",
    "LightGBM": "model.txt",
    "rules-json": "limits.rules.json",
    "pickle": "model.joblib",
    "Triton": None,
}
LATENT = {
    "architectures": ["DeepseekV2ForCausalLM"],
    "model_type": "deepseek_v2",
    "hidden_size": 2048,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "vocab_size": 102400,
    "max_position_embeddings": 163840,
}
"""DeepSeek-V2-Lite, as research/engines.md 4.9 has it."""
SMALL_LATENT_PARAMETERS = 15_706_484_224

CASES: dict[str, tuple[str, Facts]] = {}
"""Name of the engine and facts of the version, by <engine>-<family>."""


def _language(name: str, config: dict[str, Any], size: int | None, count: int | None) -> Facts:
    geometry = read(config)
    assert isinstance(geometry, Geometry)
    return Facts(
        name=f"{name}-1",
        format="safetensors",
        architecture=config["architectures"][0],
        parameters=count,
        weights_bytes=size,
        layers=len(geometry.layers),
        hidden_size=geometry.hidden_size,
        attention_heads=geometry.attention_heads,
        kv_heads=geometry.kv_heads,
        head_dim=config.get("head_dim"),
        vocabulary=geometry.vocabulary,
        context_tokens=geometry.context_tokens,
        quantization=(config.get("quantization_config") or {}).get("quant_method"),
        geometry=geometry,
    )


def _gguf(facts: Facts) -> Facts:
    """Return the same model as a GGUF file of four bits."""
    each = bytes_per_parameter("Q4_K_M")
    assert each is not None
    assert facts.parameters is not None
    return replace(
        facts,
        format="GGUF",
        quantization="Q4_K_M",
        weights_bytes=math.ceil(each * facts.parameters),
        main_file="model-q4_k_m.gguf",
    )


def _fill() -> None:
    models = {
        family: _language(family, config, tensor_bytes(config), parameters(config))
        for family, name in LANGUAGE.items()
        for config in [json.loads((CONFIGS / f"{name}.json").read_text())]
    }
    models["latent"] = _language("latent", LATENT, 2 * SMALL_LATENT_PARAMETERS, SMALL_LATENT_PARAMETERS)
    for family, facts in models.items():
        CASES[f"vLLM-{family}"] = "vLLM", facts
        CASES[f"SGLang-{family}"] = "SGLang", facts
        CASES[f"LlamaCpp-{family}"] = "LlamaCpp", _gguf(facts)
    for engine, formats in TABULAR.items():
        for known in formats:
            facts = Facts("fraud-1", format=known, main_file=FILES[known], file_bytes=1_482_000)
            CASES[f"{engine}-{known.lower()}"] = engine, facts
    CASES["Custom-any"] = "Custom", Facts("own-1", format="safetensors", file_bytes=1_482_000)


_fill()


def rendered(case: str) -> Manifest:
    """Return the workload of a case, placed on eight H100."""
    name, facts = CASES[case]
    engine = by_name(name)
    assert not isinstance(engine, Reason), engine
    return _workload(engine, facts)


def _workload(engine: Engine, facts: Facts) -> Manifest:
    image = "registry.example.com/own:1" if engine.name in ("Custom", "Predictive") else None
    ask = Ask("chat", image=image, drain=timedelta(minutes=2))
    demand = Demand(
        "chat",
        facts,
        engine,
        ask,
        count=1 if engine.name in ("Custom",) else None,
        on_cpus=engine.computes_on is not Compute.GPUS,
    )
    labels = {
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
        "nvidia.com/gpu.memory": "81559",
        "nvidia.com/gpu.compute.major": "9",
        "nvidia.com/gpu.compute.minor": "0",
        "nvidia.com/cuda.driver-version.major": "580",
    }
    amounts = {"nvidia.com/gpu": 8, "memory": 2**40}
    place = choose(inventory([NodeRow("host-0", labels, amounts, amounts)], ()), demand)
    assert isinstance(place, Placement), place
    revision = Revision(
        owner=OWNER,
        hash="1a2b3c4d",
        version=facts.name,
        digest=DIGEST,
        engine=engine.name,
        launch=engine.launch(facts, place.fill(ask)),
        placement=place,
        resource_name=place.resource,
        images=Images("registry.example.com/modelops:1.0"),
        store="/var/lib/modelops/store",
        drain=timedelta(minutes=2),
        node_selector={},
    )
    return workload(revision, replicas=1, role="stable")
