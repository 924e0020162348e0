"""``kubectl modelops fit`` as a person and a program call it."""

import io
import json
import sys
from pathlib import Path

import pytest

from modelops.cli.main import main

CONFIGS = Path(__file__).parent.parent / "data" / "hf-configs"
LLAMA = str(CONFIGS / "llama3_1.json")
FIELDS = [
    "verdict",
    "reason",
    "tensorParallel",
    "parameters",
    "weightsBytesPerGPU",
    "overheadBytesPerGPU",
    "kvBytesPerGPU",
    "kvBytesPerToken",
    "bytesPerBlock",
    "blocks",
    "blocksPerRequest",
    "kvCacheTokens",
    "concurrency",
    "maxContextTokens",
]


def run(*words):
    try:
        return main(["fit", *words])
    except SystemExit as end:
        return end.code


def asked(*words, config=LLAMA, gpus="8", on=("--gpu", "H100")):
    return run("--config", config, "--gpus", gpus, *on, *words)


def test_json_stands_alone_on_stdout_with_every_field(capsys):
    assert asked("--context", "8192") == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == ""
    assert list(found) == FIELDS
    assert (found["verdict"], found["tensorParallel"], found["parameters"]) == ("fits", 4, 70_553_706_496)
    assert found["kvBytesPerToken"] == 81_920
    # Usable memory is 99 % of the label, of which 92 % may be taken.
    usable = 81559 * 2**20 * 99 // 100 * 92 // 100
    for side, other in (("low", "high"), ("high", "low")):
        rest = usable - found["weightsBytesPerGPU"] - found["overheadBytesPerGPU"][side]
        assert found["kvBytesPerGPU"][other] == rest


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        pytest.param(("--context", "8192"), "fits", id="it fits"),
        pytest.param(("--tensor-parallel", "1"), "no", id="it does not"),
    ],
)
def test_every_verdict_ends_with_zero(words, verdict, capsys):
    assert asked(*words, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == verdict


def test_a_cache_that_is_given_takes_the_place_of_the_estimate(capsys):
    assert asked("--kv-cache-memory-bytes", "4294967296", "--context", "8192", "--tensor-parallel", "8") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kvBytesPerGPU"] == {"low": 4294967296, "high": 4294967296}
    assert found["overheadBytesPerGPU"] == {"low": None, "high": None}
    assert found["blocks"] == 4294967296 // found["bytesPerBlock"]


def test_weights_that_are_told_are_loaded_with_the_factor(capsys):
    assert asked("--weights-bytes", "1000000000", "--tensor-parallel", "1") == 0
    assert json.loads(capsys.readouterr().out)["weightsBytesPerGPU"] == 1_010_000_000


def test_a_table_is_printed_for_people(capsys):
    assert asked("--context", "8192", "-o", "table") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["verdict", "fits"]
    assert "parameters          70,553,706,496" in lines
    assert lines[-1].startswith("vLLM on 4 x GPU with 78.9 GiB usable: one request of 8192 tokens needs ")


def test_the_label_of_a_node_and_its_memory_are_the_same(capsys):
    assert asked("--context", "8192", on=("--gpu", "NVIDIA-H100-80GB-HBM3")) == 0
    by_label = capsys.readouterr().out
    assert asked("--context", "8192", on=("--gpu-memory-mib", "81559")) == 0
    assert capsys.readouterr().out == by_label


def test_a_cache_type_that_only_llama_cpp_has_names_the_engine(capsys):
    assert asked("--kv-cache-dtype", "q8_0", "--context", "8192") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["bytesPerBlock"], found["blocks"], found["blocksPerRequest"]) == (None, None, None)


def test_a_configuration_is_read_from_stdin(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(LLAMA).read_bytes())))
    assert asked(config="-") == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 70_553_706_496


@pytest.mark.parametrize(
    ("words", "start"),
    [
        pytest.param(("--gpus", "1", "--gpu", "H100"), "--config: needs", id="no file"),
        pytest.param(("--config", LLAMA, "--gpu", "H100"), "--gpus: needs", id="no count"),
        pytest.param(("--config", LLAMA, "--gpus", "1"), "--gpu: needs either", id="no GPU"),
        pytest.param(
            ("--config", LLAMA, "--gpus", "1", "--gpu", "L4", "--gpu-memory-mib", "9"),
            "--gpu: needs either",
            id="two GPUs",
        ),
        pytest.param(
            ("--config", "nowhere.json", "--gpus", "1", "--gpu", "H100"), "nowhere.json: ", id="no such file"
        ),
        pytest.param(("--config", str(CONFIGS), "--gpus", "1", "--gpu", "H100"), str(CONFIGS), id="a folder"),
        pytest.param(
            ("--config", "a\0b", "--gpus", "1", "--gpu", "H100"), "--config: needs", id="no name of a file"
        ),
        pytest.param(("--config", LLAMA, "--gpus", "1", "--frob"), "kubectl modelops", id="an unknown flag"),
        pytest.param(
            ("--config", LLAMA, "--gpus"), "kubectl modelops fit: argument --gpus", id="a flag without value"
        ),
    ],
)
def test_a_question_without_its_parts_ends_with_two_and_one_sentence(words, start, capsys):
    assert run(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(start)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "start"),
    [
        pytest.param(
            ("--gpu-memory-mib", "0"), "--gpu-memory-mib: needs a whole number above 0", id="no memory"
        ),
        *(
            pytest.param((flag, value), f"{flag}: needs a whole number above 0, found", id=f"{flag} {value}")
            for flag in (
                "--weights-bytes",
                "--tensor-parallel",
                "--context",
                "--kv-cache-memory-bytes",
                "--block-size",
                "--max-batched-tokens",
                "--batches-in-flight",
            )
            for value in ("-1", "0", "1.5", "many", "9" * 40)
        ),
        *(
            pytest.param(
                ("--gpu-memory-utilization", value), "--gpu-memory-utilization: needs a share", id=value
            )
            for value in ("0", "-0.5", "1.01", "nan", "inf", "most", "92%")
        ),
        pytest.param(
            ("--engine", "vllm"), "--engine: needs one of vLLM, SGLang, LlamaCpp", id="an unknown engine"
        ),
        pytest.param(
            ("--kv-cache-dtype", "fp4"), "--kv-cache-dtype: needs one of", id="an unknown cache type"
        ),
        pytest.param(
            ("--engine", "vLLM", "--kv-cache-dtype", "q8_0"),
            "--kv-cache-dtype: vLLM needs",
            id="of another engine",
        ),
        pytest.param(
            ("--engine", "LlamaCpp", "--block-size", "16"), "--block-size: needs", id="blocks of llama.cpp"
        ),
        pytest.param(
            ("--engine", "SGLang", "--prefix-caching"), "--prefix-caching: needs", id="a flag of vLLM"
        ),
        pytest.param(
            ("--tensor-parallel", "3"), "--tensor-parallel: the GPU count must divide", id="no divisor"
        ),
        pytest.param(("--tensor-parallel", "16"), "--tensor-parallel: needs at most", id="more than --gpus"),
        pytest.param(("--context", "131073"), "--context: may be at most", id="past the model's context"),
        pytest.param(("-o", "yaml"), "-o: needs json or table", id="another output"),
    ],
)
def test_bad_input_ends_with_two_and_one_sentence(words, start, capsys):
    on = () if words[0] == "--gpu-memory-mib" else ("--gpu", "H100")
    assert asked(*words, on=on) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(start)
    assert err.count("\n") == 1
    assert "; " in err, "it ends with what to do"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param(b"", "needs JSON", id="an empty file"),
        pytest.param(b"{", "needs JSON", id="no JSON"),
        pytest.param(b"\xff\xfe", "needs JSON", id="no UTF-8"),
        pytest.param(b"[" * 100_000, "needs JSON", id="JSON too deep"),
        pytest.param(
            b'{"vocab_size": ' + b"9" * 5000 + b"}", "needs JSON", id="a number of thousands of digits"
        ),
        pytest.param(b"[]", "needs a JSON object", id="no object"),
        pytest.param(b"{}", "needs num_hidden_layers", id="an empty object"),
        pytest.param(b'{"text_config": 3}', "needs num_hidden_layers", id="a language part that is a number"),
        pytest.param(b" " * (5 * 2**20), "bytes", id="a huge file"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(text, named, tmp_path, capsys):
    file = tmp_path / "config.json"
    file.write_bytes(text)
    assert asked(config=str(file)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert named in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        pytest.param({"model_type": "hyena"}, "hyena", id="an unknown architecture"),
        pytest.param({"layer_types": ["tape"] * 80}, "tape", id="an unknown kind of layer"),
        pytest.param({"num_hidden_layers": -3}, "num_hidden_layers", id="a negative number"),
        pytest.param(
            {"quantization_config": {"quant_method": "exotic"}}, "--weights-bytes", id="an unknown scheme"
        ),
    ],
)
def test_a_model_that_cannot_be_reckoned_says_what_to_give(changes, named, tmp_path, capsys):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(Path(LLAMA).read_text()), **changes}))
    assert asked(config=str(file)) == 2
    err = capsys.readouterr().err
    assert named in err
    assert err.count("\n") == 1
