"""The contract of the family on the stand-ins: flags, metrics and shutdown of engines without models."""

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from modelops.engines.base import Ask, Engine, Facts
from modelops.engines.geometry import Geometry, Kind, Layer
from modelops.engines.llamacpp import LlamaCpp
from modelops.engines.sglang import SGLang
from modelops.engines.triton import Triton
from modelops.engines.vllm import VLLM
from tests.family.contract import NAME, Member, carries, dies, lives

GEOMETRY = {
    "weights_bytes": 60 * 2**20,
    "layers": 8,
    "hidden_size": 512,
    "attention_heads": 8,
    "kv_heads": 2,
    "head_dim": 64,
    "vocabulary": 384,
    "context_tokens": 2048,
}
PLAIN = Geometry((Layer(Kind.FULL, 2, 64, 64),) * 8, 512, 8, 2, 384, 2048, inner_size=1024)
LANGUAGE = Facts("chat-1", format="safetensors", **GEOMETRY)
GGUF = Facts("chat-1", format="GGUF", main_file="m.gguf", **GEOMETRY)
ONNX = Facts("chat-1", format="ONNX", main_file="model.onnx")
CHAT = {"model": NAME, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
ROWS = {"inputs": [{"name": "rows", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}]}
KNOBS = {"startup": 0.05, "ttft": 0.01, "itl": 0.002, "exit": 0.0}
KINDS = {"vLLM": "vllm", "SGLang": "sglang", "LlamaCpp": "llamacpp", "Triton": "triton"}


def member(engine: Engine, facts: Facts, folder: Path) -> Member:
    """Return a stand-in with the smallest files that it takes for a model."""
    files = folder / "files"
    files.mkdir()
    (files / "m.gguf").write_bytes(b"GGUF")
    is_language = engine.name != "Triton"
    knobs = KNOBS if is_language else {**KNOBS, "ttft": 0.25}
    return Member(
        engine=engine,
        facts=facts,
        files=files,
        program=lambda launch: (
            sys.executable,
            "-m",
            "e2e.engine",
            "--as",
            KINDS[engine.name],
            *launch.command,
        ),
        path="/v1/chat/completions" if is_language else f"/v2/models/{NAME}/infer",
        body=CHAT if is_language else ROWS,
        slow={**CHAT, "max_tokens": 150} if is_language else ROWS,
        bad={**CHAT, "max_tokens": -1} if is_language else {"inputs": []},
        ask=Ask(NAME, context_tokens=2048, max_concurrency=8) if is_language else Ask(NAME, gpus=0),
        env={"STAND_IN_KNOBS": json.dumps(knobs), "PYTHONPATH": ":".join(sys.path)},
        streams=is_language,
        broken=lambda files: (files / "m.gguf").write_bytes(b"XXXX"),
        pause_seconds=0.1,
    )


@pytest.mark.parametrize(
    ("engine", "facts"),
    [(VLLM(), LANGUAGE), (SGLang(), LANGUAGE), (LlamaCpp(), GGUF), (Triton(), ONNX)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_member_of_the_family_lives_by_the_contract(engine, facts, tmp_path):
    asyncio.run(lives(member(engine, facts, tmp_path), tmp_path))


@pytest.mark.parametrize("engine", [VLLM(), SGLang()], ids=lambda engine: engine.name)
def test_a_member_that_serves_adapters_serves_them_by_the_contract(engine, tmp_path):
    plain = replace(LANGUAGE, geometry=PLAIN)
    asyncio.run(carries(member(engine, plain, tmp_path), tmp_path))


def test_a_member_of_the_family_dies_with_a_word(tmp_path):
    asyncio.run(dies(member(LlamaCpp(), GGUF, tmp_path), tmp_path))
