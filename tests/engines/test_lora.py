"""Adapters beside a model: their arguments, the memory of their places, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from modelops.engines import ENGINES
from modelops.engines.base import Adapter, Ask, Facts, Gpu
from modelops.engines.geometry import Geometry, read
from modelops.engines.lora import inner_size, limit, parameters, places_bytes
from modelops.engines.sglang import SGLang
from modelops.engines.vllm import VLLM

CONFIGS = Path(__file__).parent.parent / "data" / "hf-configs"
MIB = 2**20
LEGAL, MEDICAL = Adapter("legal", "/adapters/legal", 16), Adapter("medical", "/adapters/medical", 12)
BOTH = [pytest.param(VLLM(), id="vLLM"), pytest.param(SGLang(), id="SGLang")]


def geometry(name, **changes) -> Geometry:
    found = read({**json.loads((CONFIGS / f"{name}.json").read_text()), **changes})
    assert isinstance(found, Geometry)
    return found


LLAMA_8B = geometry(
    "llama3_1", hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32
)
FACTS = Facts("chat-1", format="safetensors", weights_bytes=16_060_522_496, geometry=LLAMA_8B)


PLAIN = replace(
    FACTS,
    geometry=None,
    parameters=8_030_261_248,
    layers=32,
    hidden_size=4096,
    attention_heads=32,
    kv_heads=8,
    head_dim=128,
    vocabulary=128256,
)
"""The same model as a version's status tells it: plain attention has no text of its own there."""


@pytest.mark.parametrize(
    ("model", "rank", "printed"),
    [
        pytest.param(LLAMA_8B, 16, 41_943_040, id="Llama-3.1-8B"),
        pytest.param(geometry("mistral"), 16, 41_943_040, id="Mistral-7B"),
        pytest.param(geometry("qwen2.5_7b"), 16, 40_370_176, id="Qwen2.5-7B"),
        pytest.param(geometry("llama3_2_1b"), 16, 11_272_192, id="Llama-3.2-1B"),
    ],
)
def test_an_adapter_of_all_linear_layers_has_the_parameters_that_peft_prints(model, rank, printed):
    """Source: "trainable params" of published training logs of these models, rank 16, all linear layers."""
    assert parameters(model, rank) == printed


def ask(*adapters, **changes) -> Ask:
    return Ask("chat", 8192, gpu=Gpu("NVIDIA-H100", 81559 * MIB), adapters=adapters, **changes)


@pytest.mark.parametrize("engine", BOTH)
def test_a_place_is_reckoned_for_each_adapter_at_the_largest_rank(engine):
    alone, both = engine.footprint(FACTS, ask()), engine.footprint(FACTS, ask(LEGAL, MEDICAL))
    assert alone is not None
    assert both is not None
    more = both.weights_bytes_per_gpu - alone.weights_bytes_per_gpu
    assert more == 2 * 2 * parameters(LLAMA_8B, 16) + 64 * MIB


def test_an_inner_size_that_no_fact_tells_is_bounded_by_the_parameters():
    layout = PLAIN.layout()
    assert layout is not None
    assert 14336 <= inner_size(PLAIN, layout) <= 1.1 * 14336
    assert (
        places_bytes(FACTS, ask(LEGAL))
        <= places_bytes(PLAIN, ask(LEGAL))
        <= 1.1 * places_bytes(FACTS, ask(LEGAL))
    )


def test_over_several_gpus_one_matrix_of_each_pair_is_copied():
    whole, quarter = places_bytes(FACTS, ask(LEGAL)), places_bytes(FACTS, ask(LEGAL, gpus=4))
    assert whole / 4 < quarter < whole


def test_a_rank_takes_the_place_of_the_next_size_that_vllm_knows():
    assert limit(ask(MEDICAL)) == 16
    assert limit(ask(replace(MEDICAL, rank=65))) == 128


def test_vllm_is_told_the_names_the_folders_and_the_limits():
    args = VLLM().launch(FACTS, ask(LEGAL, MEDICAL)).args
    at = args.index("--enable-lora")
    assert args[at : at + 6] == (
        "--enable-lora",
        "--max-loras=2",
        "--max-lora-rank=16",
        "--lora-modules",
        "legal=/adapters/legal",
        "medical=/adapters/medical",
    )


def test_sglang_is_told_the_names_the_folders_and_the_limits():
    args = SGLang().launch(FACTS, ask(LEGAL)).args
    at = args.index("--enable-lora")
    assert args[at : at + 7] == (
        "--enable-lora",
        *("--max-loras-per-batch", "1"),
        *("--max-lora-rank", "16"),
        *("--lora-paths", "legal=/adapters/legal"),
    )


@pytest.mark.parametrize("engine", BOTH)
def test_without_adapters_nothing_is_told(engine):
    assert not [arg for arg in engine.launch(FACTS, ask()).args if "lora" in arg]
    assert places_bytes(FACTS, ask()) == 0


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.parametrize(
    ("facts", "adapters", "code"),
    [
        pytest.param(FACTS, (LEGAL, MEDICAL), None, id="two adapters"),
        pytest.param(FACTS, (LEGAL, LEGAL), "AdapterNameTaken", id="one name twice"),
        pytest.param(FACTS, (replace(LEGAL, name="chat"),), "AdapterNameTaken", id="the model's own name"),
        pytest.param(FACTS, (replace(LEGAL, rank=1024),), "AdapterRankUnsupported", id="too large a rank"),
        pytest.param(FACTS, (replace(LEGAL, rank=0),), "AdapterRankUnsupported", id="no rank"),
        pytest.param(
            replace(FACTS, geometry=geometry("mixtral")), (LEGAL,), "AdaptersUnsupported", id="experts"
        ),
        pytest.param(
            replace(PLAIN, parameters=None),
            (LEGAL,),
            "AdaptersUnsupported",
            id="an unknown number of parameters",
        ),
    ],
)
def test_which_adapters_are_refused(engine, facts, adapters, code):
    refused = engine.refuses(facts, ask(*adapters))
    assert (refused and refused.code) == code
    if refused:
        assert "found" in refused.message


@pytest.mark.parametrize(
    "engine", [one for one in ENGINES if one.name not in ("vLLM", "SGLang")], ids=lambda engine: engine.name
)
def test_other_engines_serve_no_adapter_by_name(engine):
    formats = {"LlamaCpp": "GGUF", "Triton": "ONNX", "MLServer": "XGBoost", "Predictive": "ONNX"}
    facts = Facts("m-1", format=formats.get(engine.name, ""), main_file="model.onnx", layers=8)
    refused = engine.refuses(facts, Ask("m", image="x/y:1", gpus=0, adapters=(LEGAL,)))
    assert refused is not None
    assert refused.code == "AdaptersUnsupported"
