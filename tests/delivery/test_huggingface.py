"""The Hugging Face source and the Job that pins a version, against a hub."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.utils._paths import filter_repo_objects
from hypothesis import given, settings
from hypothesis import strategies as st

from e2e.hub.server import Hub
from e2e.hub.thread import serving
from e2e.models.tiny import GEOMETRY, write_repository
from modelops.delivery import verify
from modelops.delivery.resolve import resolve, written
from modelops.delivery.sources import open_source
from modelops.delivery.sources.base import Credential, Unavailable
from modelops.delivery.sources.huggingface import selected
from modelops.plan import Reason

TOKEN = "hf_aTokenThatNobodyMaySee"
STRANGER = "hf_aStrangersToken"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    data = tmp_path_factory.mktemp("hub")
    write_repository(data / "acme/chat", ["v1", "v2"], GEOMETRY)
    write_repository(data / "acme/gated", ["main"], GEOMETRY)
    write_repository(data / "acme/two", ["main"], GEOMETRY)
    model = data / "acme/two/main/two.gguf"
    (data / "acme/two/main/other.gguf").write_bytes(model.read_bytes())
    files = {
        "acme/broken/main/m.gguf": b"GGUF" + bytes(100),
        "acme/code/main/modeling.py": b"",
        "acme/code/main/pytorch_model.bin": b"x",
        "acme/code/main/config.json": b'{"auto_map": {"AutoModel": "modeling.M"}, "num_hidden_layers": 2}',
        "acme/many/main/" + "x" * 200 + ".txt": b"",
    }
    for path, content in files.items():
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).write_bytes(content)
    return Hub(
        data,
        tokens=frozenset({TOKEN}),
        strangers=frozenset({STRANGER}),
        private=frozenset({"acme/chat"}),
        gated=frozenset({"acme/gated"}),
    )


@pytest.fixture(scope="module")
def served(hub: Hub) -> Iterator[str]:
    with serving(hub) as url:
        yield url


@pytest.fixture
def url(hub: Hub, served: str) -> str:
    hub.faults.clear()
    hub.requests.clear()
    hub.object_base = ""
    return served


def verdict(url: str, repo: str, token: str = "", **more: Any) -> dict[str, Any]:
    async def go() -> dict[str, Any]:
        spec = {"huggingFace": {"repo": repo, "endpoint": url, **more}}
        source = open_source(spec, Credential(token, "team/hub"), allowed_hosts=frozenset({"localhost"}))
        assert not isinstance(source, Reason)
        try:
            return dict(await resolve(source))
        finally:
            await source.close()

    answer: dict[str, Any] = json.loads(written(asyncio.run(go())))
    return answer


def test_a_version_is_pinned_with_its_digest_and_facts(hub: Hub, url: str) -> None:
    answer = verdict(url, "acme/chat", TOKEN, revision="v1")
    commit = hub.repositories["acme/chat"].refs["v1"]
    assert answer["verdict"] == "Resolved"
    assert answer["revision"] == commit
    assert answer["artifactDigest"] == verify.digest(hub.data / "acme/chat/v1")
    assert answer["files"] == 2
    facts = answer["facts"]
    assert facts["uri"] == f"hf://acme/chat@{commit}"
    wanted = {
        "format": "GGUF", "mainFile": "chat.gguf", "architecture": "llama", "layers": GEOMETRY.layers,
        "hiddenSize": GEOMETRY.width, "kvHeads": GEOMETRY.kv_heads, "contextTokens": 4096,
        "license": "apache-2.0", "gated": False, "remoteCode": False, "pickle": False, "quantization": "F16",
    }  # fmt: skip
    assert {key: facts[key] for key in wanted} == wanted
    assert facts["provenance"]["layers"] == "GGUF header"
    assert 0 < facts["weightsBytes"] < answer["bytes"]


def test_a_header_is_read_without_the_weights(hub: Hub, url: str) -> None:
    verdict(url, "acme/chat", TOKEN, revision="v1")
    ranges = [row["range"] for row in hub.requests if row["path"].startswith("/lfs-objects/")]
    assert ranges == ["bytes=0-262143"]


def test_a_branch_that_moved_gives_another_version(url: str) -> None:
    first, second = (verdict(url, "acme/chat", TOKEN, revision=name) for name in ("v1", "v2"))
    assert first["artifactDigest"] != second["artifactDigest"]
    assert first["facts"] | {"uri": ""} == second["facts"] | {"uri": ""}


@pytest.mark.parametrize(
    ("repo", "token", "more", "code", "words"),
    [
        pytest.param("acme/chat", "", {}, "RepositoryNotFound", "spec.authSecretRef", id="private, no token"),
        pytest.param(
            "acme/chat", STRANGER, {}, "RepositoryNotFound", "Secret team/hub", id="private, a stranger"
        ),
        pytest.param(
            "acme/chat",
            "hf_wrong",
            {},
            "TokenRefused",
            "renew key token of Secret team/hub",
            id="unknown token",
        ),
        pytest.param("acme/gated", "", {}, "RepositoryGated", "accept its terms", id="gated, no token"),
        pytest.param(
            "acme/gated", STRANGER, {}, "RepositoryGated", "Secret team/hub", id="gated, a stranger"
        ),
        pytest.param("acme/gone", TOKEN, {}, "RepositoryNotFound", "correct repo", id="no such repository"),
        pytest.param(
            "acme/chat", TOKEN, {"revision": "v9"}, "RevisionNotFound", "'v9'", id="no such revision"
        ),
        pytest.param("acme/two", "", {}, "AmbiguousModel", "allowPatterns", id="two models"),
        pytest.param("acme/broken", "", {}, "BadHeader", "'m.gguf'", id="a broken header"),
        pytest.param(
            "acme/chat", TOKEN, {"allowPatterns": ["*.onnx"]}, "NoFiles", "patterns", id="no file left"
        ),
    ],
)
def test_refusals_are_one_sentence_that_says_what_to_do(
    url: str, repo: str, token: str, more: dict[str, Any], code: str, words: str
) -> None:
    answer = verdict(url, repo, token, **more)
    assert answer["verdict"] == "Refused"
    assert answer["reason"]["code"] == code
    assert words in answer["reason"]["message"]
    assert "needs " in answer["reason"]["message"]
    assert token == "" or token not in json.dumps(answer)


def test_code_and_pickles_are_told(url: str) -> None:
    facts = verdict(url, "acme/code")["facts"]
    assert (facts["format"], facts["remoteCode"], facts["pickle"], facts["layers"]) == (
        "pickle",
        True,
        True,
        2,
    )


def test_one_of_two_models_is_chosen_by_a_pattern(url: str) -> None:
    assert verdict(url, "acme/two", allowPatterns=["other.gguf"])["facts"]["mainFile"] == "other.gguf"


def test_bytes_that_are_not_those_of_git_are_refused(hub: Hub, url: str) -> None:
    hub.faults.add({"path": "*/README.md", "wrongByteAt": 3})
    answer = verdict(url, "acme/chat", TOKEN, revision="v1")
    assert answer["reason"]["code"] == "DigestMismatch"
    assert "'README.md'" in answer["reason"]["message"]


def test_a_hub_that_is_away_gives_no_verdict(hub: Hub, url: str) -> None:
    with pytest.raises(Unavailable, match="ConnectError"):
        verdict("http://127.0.0.1:1", "acme/chat")


def test_an_endpoint_that_is_a_metadata_service_is_refused() -> None:
    for endpoint in ("http://169.254.169.254", "http://[::ffff:a9fe:a9fe]"):
        answer = verdict(endpoint, "acme/chat", TOKEN)
        assert answer["reason"]["code"] == "AddressRefused"


def test_the_token_goes_to_the_hub_and_not_to_where_it_redirects(hub: Hub, url: str) -> None:
    hub.object_base = url.replace("127.0.0.1", "localhost")
    assert verdict(url, "acme/chat", TOKEN, revision="v1")["verdict"] == "Resolved"
    objects = [row for row in hub.requests if row["path"].startswith("/lfs-objects/")]
    assert objects
    assert {row["host"].split(":")[0] for row in objects} == {"localhost"}
    assert not any(row["authorized"] for row in objects)
    assert all(row["authorized"] for row in hub.requests if row not in objects)


def test_a_redirect_to_a_private_host_that_nobody_listed_is_refused(hub: Hub, url: str) -> None:
    hub.object_base = url.replace("127.0.0.1", "127.0.0.2")
    answer = verdict(url, "acme/chat", TOKEN, revision="v1")
    assert answer["reason"]["code"] == "AddressRefused"
    assert "sources.allowedHosts" in answer["reason"]["message"]


def job(tmp_path: Path, url: str, token: str) -> subprocess.CompletedProcess[str]:
    """Run the Job's own command as the operator starts it."""
    (tmp_path / "token").write_text(token + "\n")
    source = {"huggingFace": {"repo": "acme/chat", "revision": "v1", "endpoint": url}}
    environ = {
        "MODELOPS_SOURCE": json.dumps(source),
        "HF_TOKEN_PATH": str(tmp_path / "token"),
        "HOME": str(tmp_path),
    }
    return subprocess.run(
        [sys.executable, "-m", "modelops", "delivery", "resolve", "--answer", str(tmp_path / "answer")],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("token", [TOKEN, STRANGER, "hf_unknownToken", ""])
def test_the_job_answers_in_4096_bytes_and_never_prints_a_token(url: str, tmp_path: Path, token: str) -> None:
    done = job(tmp_path, url, token)
    answer = (tmp_path / "answer").read_text()
    assert done.returncode == 0, done.stderr
    assert len(answer) <= 4096
    assert json.loads(answer)["verdict"] == ("Resolved" if token == TOKEN else "Refused")
    assert not token or token not in answer + done.stdout + done.stderr


def test_the_job_fails_when_it_cannot_judge(tmp_path: Path) -> None:
    done = job(tmp_path, "http://127.0.0.1:1", TOKEN)
    assert done.returncode == 1
    assert not (tmp_path / "answer").exists()
    assert TOKEN not in done.stdout + done.stderr


def test_a_credential_does_not_show_its_token(url: str, caplog: pytest.LogCaptureFixture) -> None:
    assert TOKEN not in repr(Credential(TOKEN, "team/hub"))
    with caplog.at_level(logging.DEBUG):
        verdict(url, "acme/chat", TOKEN, revision="v1")
    assert TOKEN not in caplog.text


PATTERNS = st.lists(st.sampled_from(["*.gguf", "sub/", "a*", "*", "*.json", "sub/*.txt"]), max_size=3)


@given(PATTERNS | st.none(), PATTERNS | st.none())
@settings(max_examples=50)
def test_patterns_mean_what_huggingface_hub_means(allow: list[str] | None, ignore: list[str] | None) -> None:
    paths = ["a.gguf", "b.json", "sub/a.txt", "sub/deep/c.gguf", ".gitattributes"]
    theirs = list(filter_repo_objects(paths, allow_patterns=allow, ignore_patterns=ignore))
    assert list(selected(paths, allow, ignore)) == theirs


def test_long_answers_lose_their_provenance_and_stay_whole() -> None:
    facts = {"layers": 1, "provenance": {f"field{number}": "x" * 40 for number in range(100)}}
    text = written({"v": 1, "verdict": "Resolved", "facts": facts})
    assert json.loads(text)["facts"] == {"layers": 1}
