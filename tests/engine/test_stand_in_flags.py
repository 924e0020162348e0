"""The stand-in takes what the engine takes, and refuses other flags with the engine's words and code."""

from dataclasses import replace

import pytest

from e2e.engine.flags import BadFlags, Settings, read
from e2e.engine.knobs import Knobs
from modelops.engines.base import Ask, Facts
from modelops.engines.llamacpp import LlamaCpp
from modelops.engines.sglang import SGLang
from modelops.engines.triton import Triton
from modelops.engines.vllm import VLLM

LANGUAGE = Facts("chat-1", format="safetensors", context_tokens=4096)


def read_line(line: str) -> Settings:
    return read(line.split())


def test_vllm_as_it_is_rendered():
    settings = read_line(
        "--as vllm vllm serve /models/files --served-model-name=chat --host=0.0.0.0 --port=8000 "
        "--tensor-parallel-size=1 --max-model-len=2048 --max-num-seqs=32 --max-num-batched-tokens=2048 "
        "--gpu-memory-utilization=0.9 --shutdown-timeout=120 "
        "--disable-access-log-for-endpoints=/health,/metrics"
    )
    assert (settings.model, settings.names, settings.port) == ("/models/files", ("chat",), 8000)
    assert (settings.slots, settings.context_tokens, settings.shutdown_timeout) == (32, 2048, 120)
    assert settings.has_metrics


def test_llama_server_divides_its_context_over_the_slots():
    settings = read_line(
        "--as llamacpp /app/llama-server -m /m.gguf -a chat --host 0.0.0.0 --port 8080 --metrics --no-ui "
        "--offline -np 4 -c 2048 -ngl all --fit off --sse-ping-interval 5"
    )
    assert (settings.slots, settings.context_tokens, settings.ping_seconds) == (4, 512, 5)


def test_sglang_has_metrics_only_when_asked():
    line = "--as sglang sglang serve --model-path /m --context-length 4096 --weight-version v2"
    bare = read_line(line)
    assert (bare.has_metrics, read_line(f"{line} --enable-metrics").has_metrics) == (False, True)
    assert (bare.host, bare.port, bare.weight_version) == ("127.0.0.1", 30000, "v2")


def test_triton_names_its_models_by_the_folders_of_its_repository(tmp_path):
    (tmp_path / "chat" / "1").mkdir(parents=True)
    settings = read_line(
        f"--as triton tritonserver --model-repository={tmp_path} --http-address=127.0.0.1 --http-port=8080 "
        "--allow-grpc=false --metrics-port=8002 --model-control-mode=none --exit-timeout-secs=90"
    )
    assert (settings.names, settings.host, settings.port) == (("chat",), "127.0.0.1", 8080)
    assert (settings.metrics_port, settings.shutdown_timeout) == (8002, 90)


@pytest.mark.parametrize(
    ("engine", "model"),
    [
        pytest.param(VLLM(), LANGUAGE, id="vLLM"),
        pytest.param(SGLang(), LANGUAGE, id="SGLang"),
        pytest.param(LlamaCpp(), replace(LANGUAGE, format="GGUF", main_file="m.gguf"), id="llama.cpp"),
        pytest.param(Triton(), Facts("m-1", format="ONNX", main_file="model.onnx"), id="Triton"),
    ],
)
def test_every_argument_that_an_engine_file_renders_is_one_of_the_engines(engine, model):
    kind = engine.name.lower()
    ask = Ask("chat", context_tokens=None if kind == "triton" else 2048, gpus=int(kind != "triton"))
    launch = engine.launch(model, ask)
    assert read(["--as", kind, *launch.command, *launch.args]).engine == kind


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("--as vllm serve m --max-models 3", 2, "unrecognized arguments: --max-models 3"),
        ("--as vllm serve --port 1", 2, "required: model"),
        ("--as vllm serve m --max-model 3", 2, "unrecognized arguments"),
        ("--as llamacpp -m x --nope", 1, "error: invalid argument: --nope"),
        ("--as sglang serve --port 1", 1, "wants a model"),
        ("--as vllm serve m --port x", 2, "wants a number"),
        ("vllm serve m", 2, "wants --as"),
    ],
)
def test_what_the_engine_refuses(line, code, words):
    with pytest.raises(BadFlags, match=words) as refused:
        read_line(line)
    assert refused.value.exit_code == code


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"tfft": 1}', "found tfft"),
        ('{"ttft": "1"}', "ttft wants float"),
        ('{"slots": true}', "slots wants int"),
        ("[]", "wants a JSON object"),
        ("{", "wants a JSON object"),
    ],
)
def test_knobs_that_do_not_exist_are_refused(text, words):
    with pytest.raises(ValueError, match=words):
        Knobs.from_json(text)


def test_turning_one_knob_leaves_the_others():
    assert Knobs(itl=0.5).turned('{"ttft": 2}') == Knobs(ttft=2, itl=0.5)
