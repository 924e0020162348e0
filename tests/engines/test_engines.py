"""What each engine refuses, needs and starts."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from modelops.engines import ENGINES, by_name, pick, picked_because
from modelops.engines.base import Ask, Facts, Footprint, Gpu
from modelops.engines.custom import Custom
from modelops.engines.geometry import Geometry, read
from modelops.engines.llamacpp import LlamaCpp
from modelops.engines.parameters import parameters
from modelops.engines.vllm import VLLM
from modelops.plan import Reason

CONFIGS = Path(__file__).parent.parent / "data" / "hf-configs"
GIB = 2**30
MIB = 2**20

TINY = Facts(
    name="tiny-1",
    format="GGUF",
    weights_bytes=60 * MIB,
    layers=8,
    hidden_size=512,
    attention_heads=8,
    kv_heads=2,
    head_dim=64,
    vocabulary=384,
    context_tokens=2048,
    main_file="tiny.gguf",
)
QWEN = Facts(
    name="qwen-1",
    format="safetensors",
    weights_bytes=15_231_233_024,
    layers=28,
    hidden_size=3584,
    attention_heads=28,
    kv_heads=4,
    head_dim=128,
    vocabulary=152064,
    context_tokens=131072,
)
ASK = Ask("chat")
T4 = Gpu("Tesla-T4", 15360 * MIB, (7, 5), 580)
L4 = Gpu("NVIDIA-L4", 23034 * MIB, (8, 9), 580)
H100 = Gpu("NVIDIA-H100-80GB-HBM3", 81559 * MIB, (9, 0), 580)


def of_config(name, **changes) -> Facts:
    config = json.loads((CONFIGS / f"{name}.json").read_text())
    geometry = read(config)
    assert isinstance(geometry, Geometry)
    count = parameters(config)
    assert count is not None
    return Facts(name=name, format="safetensors", geometry=geometry, weights_bytes=2 * count, **changes)


@pytest.mark.parametrize(
    ("engine", "model", "ask", "code"),
    [
        pytest.param(VLLM(), QWEN, ASK, None, id="vLLM takes safetensors"),
        pytest.param(VLLM(), TINY, ASK, "FormatUnsupported", id="vLLM takes no GGUF"),
        pytest.param(
            VLLM(), replace(QWEN, remote_code=True), ASK, "RemoteCode", id="vLLM runs no code of a model"
        ),
        pytest.param(
            VLLM(), QWEN, replace(ASK, context_tokens=131072), None, id="all of the model's context"
        ),
        pytest.param(
            VLLM(), QWEN, replace(ASK, context_tokens=131073), "ContextTooLong", id="one token more"
        ),
        pytest.param(VLLM(), QWEN, replace(ASK, gpus=0), "GpuNeeded", id="vLLM needs a GPU"),
        *(
            pytest.param(VLLM(), QWEN, replace(ASK, gpus=gpus), code, id=f"28 heads and 4, over {gpus} GPUs")
            for gpus, code in (
                (1, None),
                (2, None),
                (3, "HeadsNotDivisible"),
                (4, None),
                (8, "HeadsNotDivisible"),
            )
        ),
        *(
            pytest.param(
                VLLM(),
                of_config("qwen2.5_0.5b"),
                replace(ASK, gpus=gpus),
                code,
                id=f"14 heads and 2, over {gpus} GPUs",
            )
            for gpus, code in ((1, None), (2, None), (4, "HeadsNotDivisible"), (7, "HeadsNotDivisible"))
        ),
        *(
            pytest.param(
                VLLM(),
                of_config("llama3_1"),
                replace(ASK, gpus=gpus),
                None,
                id=f"64 heads and 8, over {gpus} GPUs",
            )
            for gpus in (1, 2, 4, 8, 16)
        ),
        pytest.param(
            VLLM(),
            replace(QWEN, attention_heads=24, kv_heads=6),
            replace(ASK, gpus=4),
            "HeadsNotDivisible",
            id="6 key-value heads over 4 GPUs never start, although 24 heads divide",
        ),
        pytest.param(VLLM(), QWEN, replace(ASK, gpu=T4), None, id="an old GPU serves in half precision"),
        pytest.param(
            VLLM(),
            replace(QWEN, quantization="mxfp4"),
            replace(ASK, gpu=T4),
            "CapabilityTooLow",
            id="mxfp4 needs capability 8.0",
        ),
        pytest.param(
            VLLM(), replace(QWEN, quantization="fp8"), replace(ASK, gpu=T4), None, id="fp8 loads from 7.5 on"
        ),
        pytest.param(
            VLLM(),
            replace(QWEN, quantization="mxfp4"),
            replace(ASK, gpu=replace(T4, capability=None)),
            None,
            id="an unknown capability is not held against it",
        ),
        pytest.param(
            VLLM(),
            QWEN,
            replace(ASK, gpu=replace(L4, driver_major=570)),
            "DriverTooOld",
            id="driver 570 and CUDA 13",
        ),
        pytest.param(
            VLLM(),
            QWEN,
            replace(ASK, gpu=replace(L4, driver_major=570), image="vllm/vllm-openai:v0.33.0-cu129"),
            None,
            id="driver 570 and a CUDA 12 image",
        ),
        pytest.param(
            VLLM(),
            QWEN,
            replace(ASK, gpu=replace(L4, driver_major=None)),
            None,
            id="an unknown driver passes",
        ),
        pytest.param(LlamaCpp(), TINY, ASK, None, id="llama.cpp takes GGUF"),
        pytest.param(LlamaCpp(), replace(TINY, format="gguf"), ASK, None, id="in any letter case"),
        pytest.param(LlamaCpp(), QWEN, ASK, "FormatUnsupported", id="llama.cpp takes no safetensors"),
        pytest.param(
            LlamaCpp(),
            replace(TINY, main_file=None),
            ASK,
            "MainFileUnknown",
            id="llama.cpp needs one file to load",
        ),
        pytest.param(
            LlamaCpp(), TINY, replace(ASK, gpus=3), None, id="llama.cpp splits by layers, not heads"
        ),
        pytest.param(LlamaCpp(), TINY, replace(ASK, gpus=9), "LayersNotEnough", id="more GPUs than layers"),
        pytest.param(LlamaCpp(), TINY, replace(ASK, gpus=0), None, id="llama.cpp runs on CPUs"),
        pytest.param(
            LlamaCpp(),
            TINY,
            replace(ASK, gpu=replace(L4, driver_major=570)),
            "DriverTooOld",
            id="our image, old driver",
        ),
        pytest.param(
            LlamaCpp(),
            TINY,
            replace(ASK, gpu=replace(L4, driver_major=570), image="localhost/llama:1"),
            None,
            id="another image may be of any CUDA",
        ),
        pytest.param(Custom(), TINY, ASK, "ImageMissing", id="Custom needs an image"),
        pytest.param(Custom(), QWEN, replace(ASK, image="x/y:1"), None, id="Custom takes any format"),
    ],
)
def test_what_an_engine_refuses(engine, model, ask, code):
    refused = engine.refuses(model, ask)
    assert (refused and refused.code) == code
    if refused:
        assert "; " in refused.message, "a refusal ends with what to do"


@pytest.mark.parametrize(
    ("engine", "args", "code"),
    [
        pytest.param(LlamaCpp(), ("-t", "1", "--threads-batch", "2"), None, id="threads"),
        pytest.param(LlamaCpp(), ("-t", "-1"), None, id="a negative number is a value"),
        pytest.param(LlamaCpp(), ("--port", "1"), "ArgumentOwned", id="a port of one's own"),
        pytest.param(LlamaCpp(), ("-t", "1", "-ngl", "0"), "ArgumentOwned", id="hidden behind a good one"),
        pytest.param(LlamaCpp(), ("--api-key", "x"), "ArgumentForbidden", id="a key"),
        pytest.param(LlamaCpp(), ("--log-verbosity", "9"), "ArgumentUnknown", id="a flag nobody listed"),
        pytest.param(LlamaCpp(), ("stray",), "ArgumentUnknown", id="a word without a flag"),
        pytest.param(LlamaCpp(), ("-t",), "ArgumentMalformed", id="a flag without its value"),
        pytest.param(LlamaCpp(), ("-t", "--rpc"), "ArgumentMalformed", id="a flag in place of a value"),
        pytest.param(LlamaCpp(), ("--threads=1",), "ArgumentMalformed", id="llama.cpp knows no equals sign"),
        pytest.param(LlamaCpp(), ("--jinja", "1"), "ArgumentUnknown", id="a switch takes no value"),
        pytest.param(VLLM(), ("--seed=1", "--enforce-eager"), None, id="vLLM knows the equals sign"),
        pytest.param(VLLM(), ("--trust-remote-code",), "ArgumentForbidden", id="code of a model"),
        pytest.param(VLLM(), ("--trust_remote_code",), "ArgumentUnknown", id="spelt with underscores"),
        pytest.param(VLLM(), ("--trust-remote",), "ArgumentUnknown", id="abbreviated"),
        pytest.param(
            VLLM(), ("--tensor-parallel-size=8",), "ArgumentOwned", id="GPUs behind the plan's back"
        ),
        pytest.param(VLLM(), ("--enforce-eager=1",), "ArgumentMalformed", id="a switch with a value"),
        pytest.param(VLLM(), ("--allowed-local-media-path", "/"), "ArgumentForbidden", id="files of the pod"),
        pytest.param(VLLM(), ("--middleware", "x"), "ArgumentForbidden", id="code of the user"),
    ],
)
def test_which_extra_arguments_pass(engine, args, code):
    model = TINY if engine.name == "LlamaCpp" else QWEN
    refused = engine.refuses(model, replace(ASK, extra_args=args))
    assert (refused and refused.code) == code
    if code in ("ArgumentOwned", "ArgumentForbidden", "ArgumentUnknown"):
        assert any(arg.partition("=")[0] in refused.message for arg in args), "the refusal names the flag"


@pytest.mark.parametrize(
    ("engine", "model", "name", "is_refused"),
    [
        pytest.param(LlamaCpp(), TINY, "LLAMA_ARG_HOST", True, id="an argument of llama.cpp by another way"),
        pytest.param(LlamaCpp(), TINY, "OMP_NUM_THREADS", False, id="a plain variable"),
        pytest.param(VLLM(), QWEN, "HF_HUB_OFFLINE", True, id="a variable that we set"),
        pytest.param(VLLM(), QWEN, "VLLM_SERVER_DEV_MODE", True, id="the developer's doors"),
        pytest.param(VLLM(), QWEN, "HF_TOKEN", True, id="a token"),
        pytest.param(VLLM(), QWEN, "VLLM_LOGGING_LEVEL", False, id="the level of logs"),
    ],
)
def test_which_variables_pass(engine, model, name, is_refused):
    refused = engine.refuses(model, replace(ASK, env={name: "1"}))
    assert (refused is not None) is is_refused
    if refused:
        assert refused.code == "VariableForbidden"
        assert name in refused.message


def test_every_argument_that_an_engine_sets_is_owned_but_the_batch_size():
    for engine, model in ((VLLM(), QWEN), (LlamaCpp(), TINY)):
        launch = engine.launch(model, replace(ASK, context_tokens=1024, max_concurrency=2, gpu=T4))
        for flag in {arg.partition("=")[0] for arg in launch.args if arg.startswith("-")}:
            if flag == "--max-num-batched-tokens":
                continue
            refused = engine.refuses(model, replace(ASK, extra_args=(flag, "1")))
            assert refused, flag
            assert refused.code == "ArgumentOwned", flag


@pytest.mark.parametrize(
    ("facts", "ask", "weights_gib"),
    [
        pytest.param(of_config("qwen3_30b"), replace(ASK, gpus=4), 14.2474, id="Qwen3-30B-A3B over 4 GPUs"),
        pytest.param(
            replace(of_config("llama3_1_405b"), weights_bytes=57.75 * 8 * GIB),
            replace(ASK, gpus=8),
            57.75,
            id="Llama-405B-FP8 over 8 GPUs",
        ),
    ],
)
def test_weights_on_each_gpu_are_what_logs_say_within_two_percent(facts, ask, weights_gib):
    footprint = VLLM().footprint(replace(facts, weights_bytes=int(facts.weights_bytes)), ask)
    assert footprint is not None
    assert footprint.weights_bytes_per_gpu / GIB == pytest.approx(weights_gib, rel=0.02)
    assert footprint.weights_bytes_per_gpu >= int(weights_gib * GIB)


def test_vllm_plans_with_the_cache_type_that_it_is_told():
    whole = VLLM().footprint(QWEN, ASK)
    half = VLLM().footprint(QWEN, replace(ASK, extra_args=("--kv-cache-dtype", "fp8")))
    assert isinstance(whole, Footprint)
    assert isinstance(half, Footprint)
    assert whole.kv_bytes_per_token == 57_344
    assert half.kv_bytes_per_token == 28_672


def test_vllm_reckons_the_null_block_beside_one_request():
    footprint = VLLM().footprint(QWEN, replace(ASK, context_tokens=8192))
    assert footprint is not None
    assert footprint.kv_bytes_one_request == 8192 * 57_344
    assert footprint.kv_bytes_required == (8192 + 16) * 57_344


def test_llama_cpp_takes_the_cache_of_all_slots_at_start():
    footprint = LlamaCpp().footprint(TINY, replace(ASK, context_tokens=512, max_concurrency=32))
    assert footprint is not None
    token = 2 * 8 * 2 * 64 * 2
    assert footprint.kv_bytes_per_token == token
    assert footprint.kv_bytes_required == 32 * footprint.kv_bytes_one_request == 32 * 512 * token
    assert footprint.weights_bytes_per_gpu == -(-60 * MIB * 1010 // 1000)


def test_llama_cpp_spreads_whole_layers():
    one = LlamaCpp().footprint(TINY, replace(ASK, gpus=1))
    three = LlamaCpp().footprint(TINY, replace(ASK, gpus=3))
    assert one is not None
    assert three is not None
    assert three.kv_bytes_per_token * 8 == one.kv_bytes_per_token * 3, "8 layers over 3 GPUs: 3, 3 and 2"
    assert one.weights_bytes_per_gpu / 3 < three.weights_bytes_per_gpu < one.weights_bytes_per_gpu


def test_llama_cpp_plans_with_the_cache_types_that_it_is_told():
    args = ("-ctk", "q8_0", "--cache-type-v", "q4_0")
    footprint = LlamaCpp().footprint(TINY, replace(ASK, extra_args=args))
    assert footprint is not None
    assert footprint.kv_bytes_per_token == 8 * 2 * 64 * (34 + 18) // 32


@pytest.mark.parametrize(
    ("engine", "facts"),
    [
        pytest.param(VLLM(), replace(QWEN, layers=None), id="vLLM without the number of layers"),
        pytest.param(VLLM(), replace(QWEN, weights_bytes=None), id="vLLM without the size of the weights"),
        pytest.param(LlamaCpp(), replace(TINY, vocabulary=None), id="llama.cpp without the vocabulary"),
        pytest.param(Custom(), QWEN, id="Custom, always"),
    ],
)
def test_what_is_not_known_is_not_reckoned(engine, facts):
    assert engine.footprint(facts, ASK) is None


def test_llama_server_is_started_as_measured():
    ask = replace(
        ASK, context_tokens=512, max_concurrency=32, extra_args=("-t", "1"), image="localhost/llama:1"
    )
    launch = LlamaCpp().launch(TINY, ask)
    assert launch.image == "localhost/llama:1"
    assert launch.command == ("/app/llama-server",)
    assert " ".join(launch.args) == (
        "-m /model/files/tiny.gguf -a chat --host 127.0.0.1 --port 8080 --metrics --no-ui --offline "
        "-np 32 -c 16384 -ngl all --fit off --sse-ping-interval 5 -t 1"
    )
    assert (launch.port, launch.metered, launch.writable) == (8080, True, ())


def test_the_command_may_be_another():
    assert LlamaCpp().launch(TINY, replace(ASK, command=("llama-server",))).command == ("llama-server",)


def test_llama_server_on_cpus_takes_the_small_image_and_no_layers_to_a_gpu():
    launch = LlamaCpp().launch(TINY, replace(ASK, gpus=0))
    assert "cuda" not in launch.image
    assert launch.args[launch.args.index("-ngl") + 1] == "0"


def test_vllm_is_started_as_planned():
    ask = replace(ASK, context_tokens=8192, max_concurrency=64, gpus=2, gpu=L4, drain=timedelta(minutes=2))
    launch = VLLM().launch(QWEN, ask)
    assert (*launch.command, *launch.args) == (
        "vllm",
        "serve",
        "/model/files",
        "--served-model-name=chat",
        "--host=0.0.0.0",
        "--port=8000",
        "--tensor-parallel-size=2",
        "--max-model-len=8192",
        "--max-num-seqs=64",
        "--max-num-batched-tokens=2048",
        "--gpu-memory-utilization=0.92",
        "--shutdown-timeout=120",
        "--disable-access-log-for-endpoints=/health,/metrics",
    )
    assert launch.shm_bytes == 8 * GIB
    assert launch.env["VLLM_ENGINE_READY_TIMEOUT_S"] == str(launch.startup_seconds)
    assert launch.env["HF_HUB_OFFLINE"] == "1"
    assert not launch.metered


@pytest.mark.parametrize(
    ("gpu", "argument"),
    [
        pytest.param(H100, "--max-num-batched-tokens=8192", id="a large GPU takes larger batches"),
        pytest.param(T4, "--dtype=half", id="a GPU without bfloat16 computes in half"),
        pytest.param(
            Gpu("NVIDIA-L4-SHARED", 23034 * MIB // 4, shares=4, is_time_sliced=True),
            "--gpu-memory-utilization=0.23",
            id="a time slice sees the whole GPU and takes its part",
        ),
        pytest.param(
            Gpu("NVIDIA-L4", 23034 * MIB // 4, shares=4),
            "--gpu-memory-utilization=0.92",
            id="MPS shows each its own part",
        ),
    ],
)
def test_vllm_is_told_what_its_gpu_needs(gpu, argument):
    assert argument in VLLM().launch(QWEN, replace(ASK, gpu=gpu)).args


def test_a_batch_size_of_the_users_own_is_given_once():
    args = VLLM().launch(QWEN, replace(ASK, extra_args=("--max-num-batched-tokens=4096",))).args
    assert [arg for arg in args if "batched" in arg] == ["--max-num-batched-tokens=4096"]


def test_custom_runs_what_it_is_given():
    ask = replace(ASK, image="x/y:1", command=("serve",), extra_args=("--a",), port=9000, health_path="/up")
    launch = Custom().launch(QWEN, ask)
    assert (launch.image, launch.command, launch.args) == ("x/y:1", ("serve",), ("--a",))
    assert (launch.port, launch.ready_path, launch.metered) == (9000, "/up", True)


def test_the_registry_knows_every_engine_by_its_name():
    for engine in ENGINES:
        assert by_name(engine.name) is engine


@pytest.mark.parametrize(
    ("format", "model_type", "name"),
    [
        *(pytest.param(f, "LLM", "vLLM", id=f"an LLM in {f}") for f in ("safetensors", "SAFETENSORS")),
        pytest.param("GGUF", "LLM", "LlamaCpp", id="an LLM in GGUF"),
        pytest.param("safetensors", "Embedding", "vLLM", id="embeddings in safetensors"),
        *(
            pytest.param(f, "Predictive", "Predictive", id=f"a predictive model in {f}")
            for f in ("skops", "ONNX", "onnx", "XGBoost", "LightGBM", "pickle")
        ),
        pytest.param("rules-json", "Decision", "Predictive", id="a decision table"),
        pytest.param("Triton", "Predictive", "Triton", id="a folder of Triton's layout"),
        pytest.param("GGUF", "", "LlamaCpp", id="a format alone, where no Model is known"),
        pytest.param("safetensors", "Predictive", "TypeUnsupported", id="a predictive model in safetensors"),
        pytest.param("ONNX", "LLM", "TypeUnsupported", id="an LLM in ONNX"),
        pytest.param("PMML", "Predictive", "FormatUnsupported", id="a format that nobody loads"),
    ],
)
def test_auto_goes_by_the_format_and_the_type_of_the_model(format, model_type, name):
    picked = pick(format, model_type)
    assert (picked.code if isinstance(picked, Reason) else picked.name) == name
    if not isinstance(picked, Reason):
        assert format in picked_because(picked, format, model_type)


def test_an_unknown_engine_or_format_is_refused_and_never_replaced():
    engine, format = by_name("vllm"), pick("pmml")
    assert isinstance(engine, Reason)
    assert isinstance(format, Reason)
    assert (engine.code, format.code) == ("UnknownEngine", "FormatUnsupported")


def test_facts_are_read_from_a_versions_status():
    resolved = {
        "format": "safetensors",
        "architecture": "MixtralForCausalLM",
        "layers": 32,
        "hiddenSize": 4096,
        "attentionHeads": 32,
        "kvHeads": 8,
        "vocabulary": 32000,
    }
    facts = Facts.read("mix-1", resolved)
    geometry = facts.layout()
    assert geometry is not None
    assert geometry.token_bytes() == 131_072
    assert geometry.experts, "an architecture with experts has the overhead of experts"
