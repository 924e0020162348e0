"""Fetching from a real hub: resumed, hashed, refused."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.hub.server import Hub
from e2e.hub.thread import serving
from modelops.delivery.fetch import Patience, fetch
from modelops.delivery.sources import open_source
from modelops.delivery.sources.base import Credential, Listing, Unavailable
from modelops.plan import Reason

WEIGHTS = hashlib.shake_256(b"weights").digest(3_000_000)
FILES = {"m.gguf": WEIGHTS, "README.md": b"# m\n", "empty.txt": b"", "sub/b.json": b"{}"}
HASHES = {path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()}
LFS = f"/lfs-objects/{HASHES['m.gguf']}"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    data = tmp_path_factory.mktemp("hub")
    for path, content in FILES.items():
        file = data / "acme/m/main" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return Hub(data)


@pytest.fixture(scope="module")
def served(hub: Hub) -> Iterator[str]:
    with serving(hub) as url:
        yield url


@pytest.fixture
def url(hub: Hub, served: str) -> str:
    hub.faults.clear()
    hub.requests.clear()
    return served


async def nothing(_: float) -> None:
    """Do not wait."""


def run(url: str, staging: Path, **more: Any) -> dict[str, str] | Reason:
    async def go() -> dict[str, str] | Reason:
        source = open_source({"huggingFace": {"repo": "acme/m", "endpoint": url}}, Credential())
        assert not isinstance(source, Reason)
        try:
            listing = await source.resolve()
            assert isinstance(listing, Listing)
            return await fetch(source, listing, staging, **{"told": lambda _: None, "sleep": nothing, **more})
        finally:
            await source.close()

    return asyncio.run(go())


def content(staging: Path) -> dict[str, bytes]:
    root = staging / "files"
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_all_files_arrive_with_their_hashes_and_progress_is_told(url: str, tmp_path: Path) -> None:
    told: list[int] = []
    assert run(url, tmp_path, told=told.append) == HASHES
    assert content(tmp_path) == FILES
    assert told == sorted(told)
    assert told[-1] == sum(len(content) for content in FILES.values())


def test_a_connection_cut_again_and_again_is_taken_up_where_it_broke(
    hub: Hub, url: str, tmp_path: Path
) -> None:
    hub.faults.add({"path": LFS, "cutAfterBytes": 400_000, "times": 7})
    assert run(url, tmp_path) == HASHES
    asked = [row["range"] for row in hub.requests if row["path"] == LFS]
    starts = [int(text.removeprefix("bytes=").rstrip("-") or 0) for text in asked]
    assert len(starts) == 8
    assert starts == sorted(set(starts))
    conditions = [row["ifRange"] for row in hub.requests if row["path"] == LFS]
    assert conditions == [""] + [f'"{HASHES["m.gguf"]}"'] * 7


def test_a_hub_that_stays_away_is_given_up_after_bounded_tries(hub: Hub, url: str, tmp_path: Path) -> None:
    hub.faults.add({"path": LFS, "status": 503, "times": 100})
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    with pytest.raises(Unavailable, match="HTTP 503"):
        run(url, tmp_path, sleep=sleep, patience=Patience(attempts=5, longest_seconds=5))
    assert pauses == [1, 2, 4, 5]


def test_a_killed_fetch_goes_on_where_it_was(hub: Hub, url: str, tmp_path: Path) -> None:
    hub.faults.add({"path": LFS, "bytesPerSecond": 2_000_000})
    program = """
import asyncio, sys
from pathlib import Path
from modelops.delivery.fetch import fetch
from modelops.delivery.sources import open_source
from modelops.delivery.sources.base import Credential
async def go():
    source = open_source({"huggingFace": {"repo": "acme/m", "endpoint": sys.argv[1]}}, Credential())
    await fetch(source, await source.resolve(), Path(sys.argv[2]), told=lambda n: print(n, flush=True))
asyncio.run(go())
"""
    command = [sys.executable, "-c", program, url, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) > 500_000:
                break
        process.send_signal(signal.SIGKILL)
    there = (tmp_path / "files/m.gguf").stat().st_size
    assert 0 < there < len(WEIGHTS)
    hub.requests.clear()
    assert run(url, tmp_path) == HASHES
    assert content(tmp_path) == FILES
    (asked,) = [row for row in hub.requests if row["path"] == LFS]
    assert asked["range"] == f"bytes={there}-"
    assert asked["ifRange"] == f'"{HASHES["m.gguf"]}"'


def test_a_damaged_part_is_fetched_again_from_the_beginning(hub: Hub, url: str, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/m.gguf").write_bytes(b"x" + WEIGHTS[1:1000])
    assert run(url, tmp_path) == HASHES
    assert content(tmp_path) == FILES


def test_complete_files_are_hashed_and_not_fetched_again(hub: Hub, url: str, tmp_path: Path) -> None:
    run(url, tmp_path)
    hub.requests.clear()
    assert run(url, tmp_path) == HASHES
    assert [row["path"] for row in hub.requests if row["method"] == "GET" and "resolve" in row["path"]] == []


@pytest.mark.parametrize(
    ("path", "fault", "code", "words"),
    [
        pytest.param(
            LFS, {"wrongByteAt": 1_234_567}, "DigestMismatch", HASHES["m.gguf"], id="a flipped byte"
        ),
        pytest.param(
            "*/README.md",
            {"wrongByteAt": 0},
            "DigestMismatch",
            "'README.md'",
            id="a flipped byte outside LFS",
        ),
        pytest.param(LFS, {"extraBytes": 5}, "WrongLength", "needs 3000000 bytes", id="a body too long"),
        pytest.param(LFS, {"extraBytes": -5}, "WrongLength", "found 2999995", id="a body too short"),
        pytest.param("*/m.gguf", {"status": 404}, "FileMissing", "'m.gguf'", id="a file that is gone"),
        pytest.param("*/m.gguf", {"status": 403}, "AccessDenied", "(403)", id="no access"),
        pytest.param(
            "*/m.gguf",
            {"location": "http://169.254.169.254/latest"},
            "AddressRefused",
            "metadata",
            id="metadata",
        ),
        pytest.param(
            "*/m.gguf", {"location": "http://localhost:1/x"}, "AddressRefused", "private", id="private"
        ),
        pytest.param(
            "*/m.gguf", {"location": "file:///etc/passwd"}, "BadAddress", "scheme", id="another scheme"
        ),
    ],
)
def test_what_is_wrong_is_refused_with_a_sentence(
    hub: Hub, url: str, tmp_path: Path, path: str, fault: dict[str, Any], code: str, words: str
) -> None:
    hub.faults.add({"path": path, "times": 100, **fault})
    reason = run(url, tmp_path)
    assert isinstance(reason, Reason)
    assert reason.code == code
    assert words in reason.message
    assert "signature" not in reason.message


def test_a_full_disk_is_told_with_both_sizes(url: str, tmp_path: Path) -> None:
    """The file system lives in a mount namespace of its own, so it is gone with the process."""
    program = """
import asyncio, json, subprocess, sys
from pathlib import Path
from modelops.delivery.fetch import fetch
from modelops.delivery.sources import open_source
from modelops.delivery.sources.base import Credential
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", sys.argv[2]], check=True)
async def go():
    source = open_source({"huggingFace": {"repo": "acme/m", "endpoint": sys.argv[1]}}, Credential())
    reason = await fetch(source, await source.resolve(), Path(sys.argv[2]) / "s", told=lambda n: None)
    print(json.dumps([reason.code, reason.message]))
    await source.close()
asyncio.run(go())
"""
    unshare = ["unshare", "--mount", "--kill-child", "--fork"]
    unshare += [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = [*unshare, sys.executable, "-c", program, url, str(tmp_path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert printed.returncode == 0, printed.stderr
    code, message = json.loads(printed.stdout)
    assert code == "DiskFull"
    assert "more on the node's disk, found 0 B free" in message
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_file(hub: Hub, tmp_path: Path) -> None:
    """100 MiB that take no space at the hub leave the process within 32 MiB of where it was."""
    data = tmp_path / "data/acme/m/main"
    data.mkdir(parents=True)
    with (data / "m.gguf").open("wb") as stream:
        stream.truncate(100 * 2**20)
    program = """
import asyncio, resource, sys
from pathlib import Path
from modelops.delivery.fetch import fetch
from modelops.delivery.sources import open_source
from modelops.delivery.sources.base import Credential
async def go():
    source = open_source({"huggingFace": {"repo": "acme/m", "endpoint": sys.argv[1]}}, Credential())
    listing = await source.resolve()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert isinstance(await fetch(source, listing, Path(sys.argv[2]), told=lambda n: None), dict)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    await source.close()
asyncio.run(go())
"""
    with serving(Hub(tmp_path / "data")) as url:
        command = [sys.executable, "-c", program, url, str(tmp_path / "staging")]
        printed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(printed.stdout) < 32
