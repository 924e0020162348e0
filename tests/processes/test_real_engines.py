"""The contract of the family on real engines, each started by the arguments that its file renders.

``make test-engines``.  vLLM is here once its environment was made: ``python -m e2e.engine.real``, 6 GB.
"""

import asyncio
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from e2e.engine import real
from e2e.models.tiny import GEOMETRY, seed_of, write_model
from modelops.artifacts import formats
from modelops.engines import pick
from modelops.engines.base import Ask, Facts, Launch
from modelops.engines.llamacpp import LlamaCpp
from modelops.engines.mlserver import MLServer
from modelops.engines.predictive import Predictive
from modelops.engines.vllm import VLLM
from tests.family.contract import NAME, Member, dies, lives, session, started, status_of

ROOT = Path(__file__).parents[2]
INFER = f"/v2/models/{NAME}/infer"
CHAT = {"model": NAME, "messages": [{"role": "user", "content": "small word"}], "max_tokens": 8}
FILES = {
    "skops": "model.skops",
    "pickle": "model.joblib",
    "XGBoost": "model.xgb",
    "LightGBM": "model.txt",
    "ONNX": "model.onnx",
    "rules-json": "limits.rules.json",
}
START_SECONDS = 120.0
"""Both cores may be busy."""


def rows(values: Sequence[Sequence[float]]) -> dict[str, Any]:
    flat = [value for row in values for value in row]
    return {"inputs": [{"name": "rows", "datatype": "FP64", "shape": [len(values), 4], "data": flat}]}


ASKED = [[0.5, -1.25, 2.0, 0.25], [-1.0, 0.5, -0.75, 3.0]]
FACTS = {
    "inputs": [
        {"name": "age", "datatype": "FP64", "shape": [3], "data": [17, 30, 40]},
        {"name": "country", "datatype": "BYTES", "shape": [3], "data": ["DE", "FR", "IT"]},
    ]
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one model of each format, by the libraries themselves."""
    out = tmp_path_factory.mktemp("models")
    subprocess.run([real.predictive(), ROOT / "e2e/models/tabular.py", out], check=True)
    return out


def facts(models: Path, kind: str) -> Facts:
    return Facts(f"{NAME}-1", format=kind, main_file=FILES[kind])


def predictive(models: Path, kind: str) -> Member:
    """Return our runtime with the model of a format, run from this checkout."""
    python = real.predictive()
    return Member(
        engine=Predictive(),
        facts=facts(models, kind),
        files=models / kind,
        program=lambda launch: (str(python), "-m", "modelops_predictive"),
        path=INFER,
        body=FACTS if kind == "rules-json" else rows(ASKED),
        slow=rows([ASKED[0]] * 120_000),
        bad=rows([]) if kind == "rules-json" else {"inputs": []},
        ask=Ask(NAME, gpus=0, image="modelops-predictive"),
        env=real.environment(python),
        broken=lambda files: (files / FILES[kind]).write_bytes(b"{broken"),
        start_seconds=START_SECONDS,
        pause_seconds=0.5,
        exit_seconds=60.0,
    )


def mlserver(models: Path) -> Member:
    """Return MLServer as its image has it."""
    python = real.predictive()
    start = "import sys; from mlserver.cli import main; sys.argv[0] = 'mlserver'; main()"
    return Member(
        engine=MLServer(),
        facts=facts(models, "pickle"),
        files=models / "pickle",
        program=lambda launch: (str(python), "-c", start, *launch.command[1:]),
        path=INFER,
        body=rows(ASKED),
        slow=rows([ASKED[0]] * 120_000),
        bad={"inputs": "none"},
        ask=Ask(NAME, gpus=0),
        env=real.environment(python),
        broken=lambda files: (files / FILES["pickle"]).write_bytes(b"broken"),
        dead_code=0,  # it says so itself, and its HTTP port stays shut
        start_seconds=START_SECONDS,
        pause_seconds=0.5,
        exit_seconds=60.0,
    )


def llama(folder: Path) -> Member:
    """Return llama-server of the distribution with the tiny model of the demo."""
    files = folder / "files"
    files.mkdir()
    write_model(files / "tiny.gguf", seed=seed_of("v1"), geometry=GEOMETRY)
    return Member(
        engine=LlamaCpp(),
        facts=Facts(f"{NAME}-1", format="GGUF", main_file="tiny.gguf", context_tokens=2048),
        files=files,
        program=lambda launch: real.llama_server(),
        path="/v1/chat/completions",
        body=CHAT,
        slow={**CHAT, "max_tokens": 1000},
        bad={"model": NAME},
        ask=Ask(NAME, gpus=0, context_tokens=2048, max_concurrency=4),
        env={"GGML_BACKEND_PATH": real.llama_backend()},
        streams=True,
        broken=lambda files: (files / "tiny.gguf").write_bytes(b"GGUF, or not"),
        start_seconds=60.0,
    )


def vllm(folder: Path, python: Path) -> Member:
    """Return vLLM on CPUs with a llama of 1.4 million weights."""
    files = folder / "files"
    subprocess.run([python, ROOT / "e2e/models/tiny_llama.py", files], check=True)
    return Member(
        engine=VLLM(),
        facts=Facts(f"{NAME}-1", format="safetensors", context_tokens=2048),
        files=files,
        program=lambda launch: (str(python), "-m", "vllm.entrypoints.cli.main", *launch.command[1:]),
        path="/v1/chat/completions",
        body=CHAT,
        slow={**CHAT, "max_tokens": 900, "ignore_eos": True},
        bad={"model": NAME},
        ask=Ask(NAME, context_tokens=1024, max_concurrency=8, extra_args=("--enforce-eager",)),
        env={
            **real.environment(python),
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        },
        streams=True,
        start_seconds=300.0,
        exit_seconds=60.0,
    )


def live(member: Member, folder: Path) -> None:
    asyncio.run(lives(member, folder))


def test_llama_server_lives_by_the_contract(tmp_path):
    live(llama(tmp_path), tmp_path)


def test_llama_server_dies_with_a_word(tmp_path):
    asyncio.run(dies(llama(tmp_path), tmp_path))


def test_mlserver_lives_by_the_contract(models, tmp_path):
    live(mlserver(models), tmp_path)


def test_mlserver_dies_with_a_word_and_code_zero(models, tmp_path):
    asyncio.run(dies(mlserver(models), tmp_path))


def test_our_runtime_lives_by_the_contract(models, tmp_path):
    live(predictive(models, "skops"), tmp_path)


@pytest.mark.parametrize("kind", FILES)
def test_our_runtime_dies_with_a_word(models, tmp_path, kind):
    asyncio.run(dies(predictive(models, kind), tmp_path))


@pytest.mark.parametrize("kind", [kind for kind in FILES if kind != "rules-json"])
def test_our_runtime_answers_as_the_library_does(models, tmp_path, kind):
    wanted = json.loads((models / kind / "expected.json").read_text())
    http, grpc = asyncio.run(asked(predictive(models, kind), tmp_path))
    assert http["outputs"][0]["data"] == pytest.approx(wanted, rel=1e-6)
    assert grpc == pytest.approx(wanted, rel=1e-6)


def test_a_decision_comes_with_the_rules_that_fired_and_their_facts(models, tmp_path):
    http, _ = asyncio.run(asked(predictive(models, "rules-json"), tmp_path))
    said = {output["name"]: output["data"] for output in http["outputs"]}
    assert said["decision"] == ["deny", "grant", "ask"]
    assert said["limit"] == [0.0, 5000.0, 0.0]
    assert [json.loads(fired) for fired in said["fired_rules"]] == [["minor"], ["local"], []]
    assert json.loads(said["facts"][1]) == {"age": 30.0, "country": "FR"}


def test_nobody_can_take_the_model_away(models, tmp_path):
    async def story() -> None:
        member = predictive(models, "rules-json")
        async with started(member, tmp_path, member.files) as running, session() as client:
            ready = running.base + running.launch.ready_path
            while await status_of(client, ready) != 200:
                assert running.process.returncode is None, running.last_words()
                await asyncio.sleep(0.1)
            for path in ("index", f"models/{NAME}/unload", f"models/{NAME}/load"):
                async with client.post(f"{running.base}/v2/repository/{path}", json={}) as answer:
                    assert answer.status == 403
            assert await status_of(client, ready) == 200

    asyncio.run(story())


def test_a_pickle_is_loaded_only_by_who_may(models, tmp_path):
    python = real.predictive()
    file = models / "pickle" / FILES["pickle"]
    command = [python, "-m", "modelops_predictive", "--name", NAME, "--format", "pickle", "--file", file]
    ended = subprocess.run(command, env=real.environment(python), capture_output=True, text=True)
    assert ended.returncode == 1
    assert "needs a format that runs no code at load" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_skops_file_with_a_type_that_nobody_listed_is_not_loaded(models):
    python = real.predictive()
    file = models / "strange" / "model.skops"
    command = [python, "-m", "modelops_predictive", "--name", NAME, "--format", "skops", "--file", file]
    ended = subprocess.run(command, env=real.environment(python), capture_output=True, text=True)
    assert ended.returncode == 1
    assert "needs types that are known to run no code, found posix.system" in ended.stderr


@pytest.mark.parametrize("kind", FILES)
def test_the_format_is_found_out_from_the_files(models, kind):
    names = [path.name for path in (models / kind).iterdir() if path.name != "expected.json"]
    found = formats.format_of(names)
    if found == "Other":
        vague = formats.vague(names)
        assert vague is not None
        found = formats.format_of_head((models / kind / vague).read_bytes()[:64])
    assert found == kind
    assert getattr(pick(found, "Predictive"), "name", "") == "Predictive"


MADE = real.vllm()


@pytest.mark.parametrize("python", [MADE] if MADE else [], ids=["CPU"] if MADE else [])
def test_vllm_lives_by_the_contract(python, tmp_path):
    live(vllm(tmp_path, python), tmp_path)


async def asked(member: Member, folder: Path) -> tuple[dict[str, Any], list[float]]:
    """Return what the member answers over HTTP, and its first output over gRPC."""
    async with started(member, folder, member.files) as running, session() as client:
        launch: Launch = running.launch
        while await status_of(client, running.base + launch.ready_path) != 200:
            assert running.process.returncode is None, running.last_words()
            await asyncio.sleep(0.1)
        async with client.post(running.base + member.path, json=member.body) as answer:
            http = await answer.json()
            assert answer.status == 200, http
        assert launch.grpc_port is not None
        call = await asyncio.create_subprocess_exec(
            str(real.predictive()),
            str(ROOT / "tests/processes/ask_grpc.py"),
            f"127.0.0.1:{running.ports[launch.grpc_port]}",
            json.dumps({"name": NAME, **member.body}),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await call.communicate()
        assert call.returncode == 0
        return http, json.loads(said)
