"""What SGLang, MLServer, Triton and Predictive refuse, are told, and how they are probed."""

from dataclasses import replace
from datetime import timedelta

import pytest

from modelops.engines.base import METERED, Ask, Compute, Facts, Gpu
from modelops.engines.mlserver import MLServer
from modelops.engines.predictive import Predictive
from modelops.engines.sglang import SGLang
from modelops.engines.triton import Triton

GIB = 2**30
MIB = 2**20
SKOPS = Facts("churn-1", format="skops", main_file="churn.skops", file_bytes=1_000_000)
PICKLE = Facts("churn-1", format="pickle", main_file="model.joblib", file_bytes=10 * GIB)
ONNX = Facts("churn-1", format="ONNX", main_file="model.onnx", file_bytes=1_000_000)
FOLDER = Facts("churn-1", format="Triton", file_bytes=1_000_000)
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
ASK = Ask("churn", gpus=0)
WITH_IMAGE = replace(ASK, image="registry.example.com/predictive:1")
GPU = replace(ASK, gpus=1)
L4 = Gpu("NVIDIA-L4", 23034 * MIB, (8, 9), 580)
H100 = Gpu("NVIDIA-H100-80GB-HBM3", 81559 * MIB, (9, 0), 580)


@pytest.mark.parametrize(
    ("engine", "model", "ask", "code"),
    [
        pytest.param(Predictive(), SKOPS, WITH_IMAGE, None, id="Predictive takes skops"),
        pytest.param(Predictive(), PICKLE, WITH_IMAGE, None, id="and pickles, which the gate decides"),
        pytest.param(Predictive(), SKOPS, ASK, "ImageMissing", id="its image is not published"),
        pytest.param(Predictive(), QWEN, WITH_IMAGE, "FormatUnsupported", id="Predictive takes no LLM"),
        pytest.param(
            Predictive(), replace(SKOPS, main_file=None), WITH_IMAGE, "MainFileUnknown", id="two files"
        ),
        pytest.param(
            Predictive(), replace(SKOPS, remote_code=True), WITH_IMAGE, "RemoteCode", id="code of a model"
        ),
        pytest.param(
            Predictive(), SKOPS, replace(WITH_IMAGE, gpus=1), "GpuUnused", id="Predictive uses no GPU"
        ),
        pytest.param(
            Predictive(), SKOPS, replace(WITH_IMAGE, context_tokens=8), "LimitUnknown", id="no context"
        ),
        pytest.param(
            Predictive(), SKOPS, replace(WITH_IMAGE, max_concurrency=8), "LimitUnknown", id="no concurrency"
        ),
        pytest.param(MLServer(), PICKLE, ASK, None, id="MLServer takes a pickle"),
        pytest.param(MLServer(), SKOPS, ASK, "FormatUnsupported", id="MLServer takes no skops"),
        pytest.param(MLServer(), PICKLE, GPU, "GpuUnused", id="MLServer uses no GPU"),
        pytest.param(Triton(), ONNX, ASK, None, id="Triton on CPUs"),
        pytest.param(Triton(), ONNX, GPU, None, id="Triton on a GPU"),
        pytest.param(
            Triton(),
            ONNX,
            replace(GPU, gpu=replace(L4, driver_major=570)),
            "DriverTooOld",
            id="Triton's image is built on CUDA 13",
        ),
        pytest.param(Triton(), FOLDER, ASK, None, id="Triton takes a folder of its layout"),
        pytest.param(
            Triton(), replace(FOLDER, remote_code=True), ASK, "RemoteCode", id="without a Python back end"
        ),
        pytest.param(
            Triton(),
            replace(ONNX, main_file="churn.onnx"),
            ASK,
            "MainFileUnknown",
            id="Triton finds no other name",
        ),
        pytest.param(SGLang(), QWEN, GPU, None, id="SGLang takes safetensors"),
        pytest.param(SGLang(), QWEN, ASK, "GpuNeeded", id="SGLang needs a GPU"),
        pytest.param(SGLang(), QWEN, replace(ASK, gpus=3), "HeadsNotDivisible", id="28 heads over 3 GPUs"),
        pytest.param(SGLang(), ONNX, GPU, "FormatUnsupported", id="SGLang takes no ONNX"),
        pytest.param(SGLang(), replace(QWEN, remote_code=True), GPU, "RemoteCode", id="SGLang runs no code"),
        pytest.param(
            SGLang(),
            QWEN,
            replace(GPU, gpu=replace(L4, driver_major=570)),
            "DriverTooOld",
            id="SGLang's image is built on CUDA 13",
        ),
    ],
)
def test_what_an_engine_of_the_family_refuses(engine, model, ask, code):
    refused = engine.refuses(model, ask)
    assert (refused and refused.code) == code
    if refused:
        assert "; " in refused.message, "a refusal ends with what to do"


@pytest.mark.parametrize(
    ("engine", "model", "args", "code"),
    [
        pytest.param(Predictive(), SKOPS, ("--threads", "2"), None, id="threads"),
        pytest.param(
            Predictive(), SKOPS, ("--allow-pickle",), "ArgumentForbidden", id="a pickle by the back door"
        ),
        pytest.param(Predictive(), SKOPS, ("--file", "/x"), "ArgumentOwned", id="another file"),
        pytest.param(MLServer(), PICKLE, ("--x",), "ArgumentUnknown", id="MLServer takes no argument"),
        pytest.param(Triton(), ONNX, ("--http-thread-count=2",), None, id="threads of Triton"),
        pytest.param(
            Triton(), ONNX, ("--model-repository=/",), "ArgumentOwned", id="another repository of Triton"
        ),
        pytest.param(
            Triton(), ONNX, ("--backend-directory", "/x"), "ArgumentForbidden", id="back ends of one's own"
        ),
        pytest.param(Triton(), ONNX, ("--grpc-port=1",), "ArgumentForbidden", id="past the meter"),
        pytest.param(SGLang(), QWEN, ("--schedule-policy", "lpm"), None, id="the schedule of SGLang"),
        pytest.param(
            SGLang(),
            QWEN,
            ("--mem-fraction-static=0.9",),
            "ArgumentOwned",
            id="memory behind the plan's back",
        ),
        pytest.param(SGLang(), QWEN, ("--trust-remote-code",), "ArgumentForbidden", id="code of a model"),
        pytest.param(SGLang(), QWEN, ("--log-requests",), "ArgumentForbidden", id="prompts in logs"),
        pytest.param(SGLang(), QWEN, ("--lora-paths", "x"), "ArgumentOwned", id="an adapter past its gates"),
        pytest.param(SGLang(), QWEN, ("--hicache-ratio", "2"), "ArgumentUnknown", id="a flag nobody listed"),
    ],
)
def test_which_extra_arguments_of_the_family_pass(engine, model, args, code):
    ask = replace(WITH_IMAGE, gpus=int(engine.name == "SGLang"), extra_args=args)
    refused = engine.refuses(model, ask)
    assert (refused and refused.code) == code
    if code:
        assert args[0].partition("=")[0] in refused.message, "the refusal names the flag"


@pytest.mark.parametrize(
    ("engine", "model", "name"),
    [
        pytest.param(MLServer(), PICKLE, "MLSERVER_HTTP_PORT", id="a port of MLServer"),
        pytest.param(Predictive(), SKOPS, "MLSERVER_DEBUG", id="tracebacks in answers"),
        pytest.param(Triton(), ONNX, "LD_PRELOAD", id="a library before all others"),
        pytest.param(SGLang(), QWEN, "SGL_FORCE_SHUTDOWN", id="an end that cuts streams"),
        pytest.param(SGLang(), QWEN, "HF_HUB_OFFLINE", id="the way to the hub"),
    ],
)
def test_variables_that_would_undo_a_promise_are_refused(engine, model, name):
    ask = replace(WITH_IMAGE, gpus=int(engine.name == "SGLang"), env={name: "1"})
    refused = engine.refuses(model, ask)
    assert refused is not None
    assert refused.code == "VariableForbidden"
    assert name in refused.message


def test_every_argument_that_the_family_sets_is_owned_or_forbidden():
    for engine, model in ((SGLang(), QWEN), (Triton(), ONNX), (Predictive(), PICKLE)):
        ask = replace(WITH_IMAGE, gpus=int(engine.name == "SGLang"), context_tokens=None)
        for flag in {a.partition("=")[0] for a in engine.launch(model, ask).args if a.startswith("-")}:
            refused = engine.refuses(model, replace(ask, extra_args=(flag, "1")))
            assert refused, flag
            assert refused.code in ("ArgumentOwned", "ArgumentForbidden"), flag


@pytest.mark.parametrize(
    ("model", "is_allowed"),
    [
        pytest.param(PICKLE, True, id="a pickle, which passed the gate"),
        pytest.param(SKOPS, False, id="skops, whatever lies beside it"),
    ],
)
def test_the_runtime_may_unpickle_only_what_is_a_pickle(model, is_allowed):
    assert ("--allow-pickle" in Predictive().launch(model, WITH_IMAGE).args) is is_allowed


def test_mlserver_starts_where_no_settings_of_a_version_lie():
    launch = MLServer().launch(PICKLE, ASK)
    assert launch.args == ("/tmp",), "settings beside the model would win over the environment"
    assert launch.env["MLSERVER_MODEL_IMPLEMENTATION"] == "mlserver_sklearn.SKLearnModel"
    assert launch.env["MLSERVER_MODEL_URI"] == "/model/files/model.joblib"
    assert launch.env["MLSERVER_DEBUG"] == "false", "answers would hold tracebacks"


@pytest.mark.parametrize(
    ("model", "where"),
    [
        pytest.param(ONNX, "/models/churn/1", id="one file"),
        pytest.param(FOLDER, "/models/churn", id="a folder"),
    ],
)
def test_triton_finds_the_version_under_the_models_name(model, where):
    assert Triton().launch(model, ASK).model_at == where


@pytest.mark.parametrize("engine", [MLServer(), Predictive(), Triton()], ids=lambda e: e.name)
def test_ready_means_that_the_model_answers_for_itself(engine):
    model = {"MLServer": PICKLE, "Predictive": SKOPS, "Triton": ONNX}[engine.name]
    launch = engine.launch(model, WITH_IMAGE)
    assert launch.ready_path == "/v2/models/churn/ready"
    assert launch.health_path == "/v2/health/live"


def test_the_start_has_time_for_every_byte():
    small = MLServer().launch(replace(PICKLE, file_bytes=0), ASK).startup_seconds
    assert MLServer().launch(PICKLE, ASK).startup_seconds - small == 10 * GIB // ASK.read_bytes_per_second


def test_a_probe_of_sglang_has_time_to_make_a_token():
    launch = SGLang().launch(QWEN, replace(GPU, drain=timedelta(seconds=90)))
    assert (launch.health_path, launch.health_timeout_seconds, launch.startup_timeout_seconds) == (
        "/health",
        25,
        25,
    )
    assert launch.ready_path == "/ready"


@pytest.mark.parametrize(
    ("gpu", "gpus", "percent"),
    [
        # Reserve of an L4, in MiB: 512 + 6144 + 128 + 96 + 512; of an H100 at least 10,240.
        pytest.param(L4, 1, 67, id="L4: 7,392 of 23,034 MiB are left"),
        pytest.param(H100, 1, 82, id="H100: 13,952 of 81,559 MiB are left"),
        pytest.param(None, 1, 80, id="a GPU that nobody describes"),
    ],
)
def test_sglang_is_told_the_share_of_memory_that_was_planned_with(gpu, gpus, percent):
    ask = replace(ASK, gpus=gpus, gpu=gpu)
    args = SGLang().launch(QWEN, ask).args
    footprint = SGLang().footprint(QWEN, ask)
    assert footprint is not None
    assert footprint.memory_percent == percent
    assert float(args[args.index("--mem-fraction-static") + 1]) == percent / 100


def test_sglang_keeps_every_token_of_every_layer():
    footprint = SGLang().footprint(QWEN, replace(GPU, context_tokens=8192))
    assert footprint is not None
    assert footprint.kv_bytes_per_token == 57_344
    assert footprint.kv_bytes_required == 8192 * 57_344


def test_who_is_judged_by_the_meter_faces_nobody_and_who_is_not_is_scraped():
    for engine, model in ((SGLang(), QWEN), (Triton(), ONNX), (Predictive(), SKOPS), (MLServer(), PICKLE)):
        launch = engine.launch(model, replace(WITH_IMAGE, gpus=int(engine.name == "SGLang")))
        assert launch.metered is (engine.queries is METERED)
        said = " ".join((*launch.args, *launch.env.values()))
        assert ("127.0.0.1" in said) is launch.metered
        assert ("0.0.0.0" in said) is not launch.metered


def test_what_needs_no_gpu_says_so():
    assert {e.name: e.computes_on for e in (SGLang(), Triton(), Predictive(), MLServer())} == {
        "SGLang": Compute.GPUS,
        "Triton": Compute.EITHER,
        "Predictive": Compute.CPUS,
        "MLServer": Compute.CPUS,
    }
