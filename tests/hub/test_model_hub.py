"""The tests' model hub, driven by the real huggingface_hub client."""

import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi, close_session, hf_hub_download, set_client_factory, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import _http

from e2e.hub.server import Hub
from e2e.hub.thread import serving

TOKEN = "hf_readersToken"
WEIGHTS = bytes(range(256)) * 400


def write(folder: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def safetensors(values: int) -> bytes:
    tensor = {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}
    header = json.dumps({"w": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4 * values)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    data = tmp_path_factory.mktemp("hub")
    readme = b"---\nlicense: apache-2.0\n---\n# chat\n"
    write(data / "acme/chat/v1", {"chat.gguf": WEIGHTS, "README.md": readme, "sub/a.json": b"{}"})
    write(data / "acme/chat/v2", {"chat.gguf": WEIGHTS[::-1], "README.md": readme})
    write(data / "acme/tensors/main", {"model.safetensors": safetensors(1000), "config.json": b"{}"})
    write(data / "acme/secret/main", {"a.txt": b"secret"})
    write(data / "acme/gated/main", {"a.txt": b"gated"})
    write(data / "acme/many/main", {f"{number}.txt": b"x" for number in range(1200)})
    return Hub(
        data,
        tokens=frozenset({TOKEN}),
        strangers=frozenset({"hf_stranger"}),
        private=frozenset({"acme/secret"}),
        gated=frozenset({"acme/gated"}),
    )


@pytest.fixture(scope="module")
def url(hub: Hub) -> Iterator[str]:
    # Other tests of this process give the library a client of theirs: here it has its own.
    before = _http._GLOBAL_CLIENT_FACTORY
    set_client_factory(_http.default_client_factory)
    with serving(hub) as address:
        yield address
        close_session()
    set_client_factory(before)


@pytest.fixture
def api(hub: Hub, url: str) -> HfApi:
    hub.faults.clear()
    return HfApi(endpoint=url, token=False)


def test_a_model_is_described_with_its_files_and_their_hashes(api: HfApi) -> None:
    info = api.model_info("acme/chat", revision="v1", files_metadata=True, securityStatus=True)
    assert len(info.sha or "") == 40
    assert info.card_data is not None
    assert info.card_data.license == "apache-2.0"
    files = {file.rfilename: file for file in info.siblings or []}
    assert set(files) == {"chat.gguf", "README.md", "sub/a.json"}
    lfs = files["chat.gguf"].lfs
    assert lfs is not None
    assert (lfs.sha256, lfs.size) == (hashlib.sha256(WEIGHTS).hexdigest(), len(WEIGHTS))
    assert files["README.md"].lfs is None
    assert files["sub/a.json"].blob_id == hashlib.sha1(b"blob 2\0{}").hexdigest()
    assert (info.gated, info.private) == (False, False)
    assert info.security_repo_status


def test_a_file_of_each_kind_is_downloaded(api: HfApi, url: str, tmp_path: Path) -> None:
    for path, content in {"chat.gguf": WEIGHTS, "sub/a.json": b"{}"}.items():
        file = hf_hub_download(
            "acme/chat", path, revision="v1", endpoint=url, token=False, cache_dir=tmp_path
        )
        assert Path(file).read_bytes() == content


def test_a_snapshot_holds_all_files_of_the_commit(url: str, tmp_path: Path) -> None:
    folder = snapshot_download(
        "acme/chat", revision="v2", endpoint=url, token=False, cache_dir=tmp_path, max_workers=2
    )
    assert {path.name for path in Path(folder).rglob("*") if path.is_file()} == {"chat.gguf", "README.md"}
    assert (Path(folder) / "chat.gguf").read_bytes() == WEIGHTS[::-1]


def test_a_tree_longer_than_a_page_is_listed_whole(api: HfApi) -> None:
    assert len(list(api.list_repo_tree("acme/many", recursive=True))) == 1200
    names = {row.path for row in api.list_repo_tree("acme/chat", revision="v1")}
    assert names == {"README.md", "chat.gguf", "sub"}


def test_safetensors_headers_are_read_by_ranges(api: HfApi) -> None:
    assert api.get_safetensors_metadata("acme/tensors").parameter_count == {"F32": 1000}


def test_a_branch_moves_and_its_old_commit_stays(api: HfApi, url: str) -> None:
    before = api.model_info("acme/chat", revision="main").sha
    httpx2.post(f"{url}/hub/refs", json={"repo": "acme/chat", "ref": "main", "to": "v2"}).raise_for_status()
    after = api.model_info("acme/chat", revision="main").sha
    assert before != after == api.model_info("acme/chat", revision="v2").sha
    assert api.model_info("acme/chat", revision=before).sha == before
    assert "main" in {branch.name for branch in api.list_repo_refs("acme/chat").branches}


@pytest.mark.parametrize(
    ("repo", "revision", "token", "error"),
    [
        pytest.param("acme/secret", None, False, RepositoryNotFoundError, id="private without token"),
        pytest.param("acme/secret", None, "hf_stranger", RepositoryNotFoundError, id="private to a stranger"),
        pytest.param("acme/gone", None, False, RepositoryNotFoundError, id="no such repository"),
        pytest.param("acme/gated", None, False, GatedRepoError, id="gated without token"),
        pytest.param("acme/gated", None, "hf_stranger", GatedRepoError, id="gated to a stranger"),
        pytest.param("acme/chat", "v9", False, RevisionNotFoundError, id="no such revision"),
        pytest.param("acme/chat", None, "hf_wrong", HfHubHTTPError, id="unknown token"),
    ],
)
def test_refusals_are_the_typed_errors_of_the_client(
    api: HfApi, repo: str, revision: str | None, token: str | bool, error: type[Exception]
) -> None:
    with pytest.raises(error):
        api.model_info(repo, revision=revision, token=token)


def test_a_missing_file_is_its_own_error(url: str, tmp_path: Path) -> None:
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("acme/chat", "no.txt", revision="v1", endpoint=url, token=False, cache_dir=tmp_path)


def test_a_token_opens_what_is_private_and_what_is_gated(api: HfApi) -> None:
    for repo in ("acme/secret", "acme/gated"):
        assert api.model_info(repo, token=TOKEN).id == repo


def test_ranges_are_answered_as_http_says(api: HfApi, url: str) -> None:
    address = f"{url}/acme/chat/resolve/v1/chat.gguf"
    part = httpx2.get(address, headers={"Range": "bytes=10-19"}, follow_redirects=True)
    assert (part.status_code, part.content) == (206, WEIGHTS[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(WEIGHTS)}"
    past = httpx2.get(address, headers={"Range": f"bytes={len(WEIGHTS)}-"}, follow_redirects=True)
    assert past.status_code == 416
    other = {"Range": "bytes=10-19", "If-Range": '"another"'}
    assert httpx2.get(address, headers=other, follow_redirects=True).content == WEIGHTS
    head = httpx2.head(address)
    assert head.status_code == 302
    assert head.headers["X-Linked-Etag"] == f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'
    assert head.headers["X-Linked-Size"] == str(len(WEIGHTS))
    assert httpx2.get(head.headers["Location"].split("?")[0]).status_code == 403


@pytest.mark.parametrize(
    ("fault", "is_seen"),
    [
        pytest.param({"status": 503}, lambda answer: answer.status_code == 503, id="unavailable"),
        pytest.param({"wrongByteAt": 7}, lambda answer: answer.content[7] == 7 ^ 0xFF, id="wrong byte"),
        pytest.param({"extraBytes": -9}, lambda answer: len(answer.content) == 102_391, id="short body"),
        pytest.param({"bytesPerSecond": 400_000}, lambda answer: answer.content == WEIGHTS, id="slow"),
    ],
)
def test_faults_act_once(
    api: HfApi, url: str, fault: dict[str, int], is_seen: Callable[[httpx2.Response], bool]
) -> None:
    httpx2.post(f"{url}/hub/faults", json={"path": "/lfs-objects/*", **fault})
    address = f"{url}/acme/chat/resolve/v1/chat.gguf"
    assert is_seen(httpx2.get(address, follow_redirects=True))
    assert httpx2.get(address, follow_redirects=True).content == WEIGHTS


def test_a_cut_connection_is_an_error_to_the_client(api: HfApi, url: str) -> None:
    httpx2.post(f"{url}/hub/faults", json={"path": "/lfs-objects/*", "cutAfterBytes": 1000})
    with pytest.raises(httpx2.HTTPError):
        httpx2.get(f"{url}/acme/chat/resolve/v1/chat.gguf", follow_redirects=True)
