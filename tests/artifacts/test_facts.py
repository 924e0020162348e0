"""Facts from config.json and file names, and how they are merged."""

import json
from pathlib import Path
from typing import Any

import pytest

from modelops.artifacts import facts, formats, huggingface_config
from modelops.plan import Reason

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
    "max_position_embeddings": 131072, "torch_dtype": "bfloat16",
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        pytest.param(
            LLAMA,
            {"layers": 32, "kvHeads": 8, "headDim": 128, "contextTokens": 131072, "quantization": "bfloat16"},
            id="a dense model",
        ),
        pytest.param(
            {"num_attention_heads": 12, "n_embd": 768}, {"kvHeads": 12, "headDim": 64}, id="old names"
        ),
        pytest.param({**LLAMA, "head_dim": 256}, {"headDim": 256}, id="a head width of its own"),
        pytest.param(
            {"text_config": LLAMA, "architectures": ["Both"]},
            {"layers": 32, "architecture": "Both"},
            id="two modes",
        ),
        pytest.param(
            {**LLAMA, "sliding_window": 4096, "use_sliding_window": False},
            {"slidingWindow": None},
            id="a window that is not used",
        ),
        pytest.param({**LLAMA, "sliding_window": 4096}, {"slidingWindow": 4096}, id="a window"),
        pytest.param(
            {"num_hidden_layers": "32", "hidden_size": True},
            {"layers": None, "hiddenSize": None},
            id="wrong types",
        ),
        pytest.param(
            {"quantization_config": {"quant_method": "mxfp4"}}, {"quantization": "mxfp4"}, id="quantized"
        ),
        pytest.param({"auto_map": {"AutoModel": "m.M"}}, {"remoteCode": True}, id="code of its own"),
        pytest.param(LLAMA, {"remoteCode": None}, id="no code tells nothing"),
    ],
)
def test_what_a_config_tells(config: dict[str, Any], wanted: dict[str, Any]) -> None:
    known = huggingface_config.facts(config)
    assert {key: known.get(key) for key in wanted} == wanted


def test_published_configs_are_read() -> None:
    folder = Path(__file__).parents[1] / "data" / "hf-configs"
    configs = sorted(folder.glob("*.json"))
    assert configs
    for path in configs:
        config = huggingface_config.read(path.read_bytes())
        assert isinstance(config, dict)
        known = huggingface_config.facts(config)
        assert known["layers"], path.name
        assert known["hiddenSize"], path.name


@pytest.mark.parametrize("data", [b"[]", b"{", b"\xff\xfe", b"[" * 10**5, b"0" * (5 * 2**20)])
def test_a_config_that_is_none_is_refused(data: bytes) -> None:
    assert isinstance(huggingface_config.read(data), Reason)


def test_the_first_that_knows_wins_and_is_named() -> None:
    merged = facts.merge(
        [
            ("GGUF header", {"layers": 32, "parameters": None, "license": "mit"}),
            ("config.json", {"layers": 31, "parameters": 7}),
            ("hub", {"license": "apache-2.0", "gated": False}),
        ]
    )
    assert merged == {
        "layers": 32,
        "parameters": 7,
        "license": "mit",
        "gated": False,
        "provenance": {
            "layers": "GGUF header",
            "parameters": "config.json",
            "license": "GGUF header",
            "gated": "hub",
        },
    }


def test_what_files_say_is_bounded() -> None:
    merged = facts.merge([("x", {"architecture": "a\n\x1b[31m" * 100, "layers": -1, "parameters": 2**60})])
    assert merged["architecture"].isprintable()
    assert len(merged["architecture"]) == 128
    assert set(merged) == {"architecture", "provenance"}
    assert len(json.dumps(merged)) < 300


@pytest.mark.parametrize(
    ("paths", "wanted"),
    [
        pytest.param(["a.gguf", "m.safetensors"], "GGUF", id="GGUF first"),
        pytest.param(
            ["model.safetensors", "pytorch_model.bin"], "safetensors", id="safetensors before pickles"
        ),
        pytest.param(["m.onnx"], "ONNX", id="ONNX"),
        pytest.param(["m.joblib"], "pickle", id="joblib is a pickle"),
        pytest.param(["m.skops", "m.pkl"], "skops", id="skops before pickles"),
        pytest.param(["limits.rules.json"], "rules-json", id="a decision table"),
        pytest.param(["m.ubj"], "XGBoost", id="UBJSON"),
        pytest.param(["m.lgb.txt"], "LightGBM", id="LightGBM's text"),
        pytest.param(["config.pbtxt", "1/model.onnx"], "Triton", id="a folder of Triton's layout"),
        pytest.param(["model.json"], "Other", id="a name that several libraries use"),
        pytest.param(["rules.json"], "Other", id="anything else"),
    ],
)
def test_the_format_follows_from_the_names(paths: list[str], wanted: str) -> None:
    assert formats.format_of(paths) == wanted


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        pytest.param(b'{"learner":{"attributes":{}', "XGBoost", id="JSON of XGBoost"),
        pytest.param(b'{ "learner": {', "XGBoost", id="with spaces"),
        pytest.param(b"{L\0\0\0\0\0\0\0\x07learner{L", "XGBoost", id="UBJSON of XGBoost"),
        pytest.param(b"tree\nversion=v4\nnum_class=1\n", "LightGBM", id="text of LightGBM"),
        pytest.param(b'{"weights": []}', "Other", id="anything else"),
        pytest.param(b"", "Other", id="nothing"),
    ],
)
def test_first_bytes_tell_libraries_apart_that_use_the_same_names(head: bytes, wanted: str) -> None:
    assert formats.format_of_head(head) == wanted


@pytest.mark.parametrize(
    ("kind", "paths", "wanted"),
    [
        pytest.param("skops", ["README.md", "m.skops"], "m.skops", id="the only one"),
        pytest.param("skops", ["a.skops", "b.skops"], None, id="one of two is a guess"),
        pytest.param("pickle", ["m.joblib", "table.npy"], "m.joblib", id="arrays are no models"),
        pytest.param("pickle", ["pytorch_model.bin"], None, id="nor are weights of PyTorch"),
        pytest.param("safetensors", ["m.safetensors"], None, id="a folder is loaded whole"),
    ],
)
def test_a_predictive_model_is_one_file(kind: str, paths: list[str], wanted: str | None) -> None:
    assert formats.main_file(kind, paths) == wanted


def test_code_and_pickles_are_seen_among_the_files() -> None:
    assert formats.has_code(["a.json", "modeling_x.py"])
    assert not formats.has_code(["a.json"])
    assert formats.has_pickle(["pytorch_model.bin"])
    assert not formats.has_pickle(["model.safetensors", "a.gguf"])


def test_shards_belong_together_and_one_missing_is_refused() -> None:
    paths = ["m-00002-of-00002.gguf", "m-00001-of-00002.gguf", "other.gguf", "README.md"]
    assert formats.gguf_shards(paths) == {
        "other.gguf": ("other.gguf",),
        "m-00001-of-00002.gguf": ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf"),
    }
    reason = formats.gguf_shards(["m-00002-of-00002.gguf"])
    assert isinstance(reason, Reason)
    assert reason.code == "ShardMissing"
