"""The node agent between an API server and a hub."""

import asyncio
import base64
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from e2e.hub.server import Hub
from e2e.hub.thread import serving
from e2e.models.tiny import GEOMETRY, write_repository
from modelops.api import names
from modelops.clients.kube import Kube
from modelops.delivery import verify
from modelops.delivery.agent import Agent
from modelops.delivery.cache import Store

TOKEN = "hf_aTokenThatNobodyMaySee"
VERSIONS, PODS = f"/apis/{names.API_VERSION}/modelversions", "/api/v1/pods"


class Api:
    """An API server that lists, watches, gets Secrets and takes a ModelNode by server-side apply."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, dict[str, Any]]] = {VERSIONS: {}, PODS: {}}
        self.secrets: dict[str, dict[str, Any]] = {}
        self.node: dict[str, Any] | None = None
        self.reports: list[dict[str, Any]] = []
        self.url = ""
        self._watches: list[tuple[str, asyncio.Queue[dict[str, Any] | None]]] = []
        self._version = 1

    def put(self, path: str, obj: dict[str, Any]) -> None:
        self._version += 1
        obj["metadata"]["resourceVersion"] = str(self._version)
        self.objects[path][obj["metadata"]["name"]] = obj
        self._send(path, {"type": "MODIFIED", "object": obj})

    def drop(self, path: str, name: str) -> None:
        self._send(path, {"type": "DELETED", "object": self.objects[path].pop(name)})

    def _send(self, path: str, event: dict[str, Any]) -> None:
        for watched, queue in self._watches:
            if watched == path:
                queue.put_nowait(event)

    def app(self) -> web.Application:
        app = web.Application()
        node = f"/apis/{names.API_VERSION}/modelnodes/{{name}}"
        app.add_routes(
            [
                web.get(VERSIONS, self._list),
                web.get(PODS, self._list),
                web.get(f"/apis/{names.API_VERSION}/namespaces/{{namespace}}/modelversions", self._list),
                web.get("/api/v1/namespaces/{namespace}/pods", self._list),
                web.get("/api/v1/namespaces/{namespace}/secrets/{name}", self._secret),
                web.patch(node, self._apply),
                web.patch(f"{node}/status", self._apply_status),
            ]
        )
        return app

    @staticmethod
    def _path(request: web.Request) -> str:
        return PODS if request.path.endswith("/pods") else VERSIONS

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            path = self._path(request)
            asked = request.match_info.get("namespace")
            found = self.objects[path].values()
            items = [item for item in found if asked in (None, item["metadata"]["namespace"])]
            return web.json_response({"items": items, "metadata": {"resourceVersion": str(self._version)}})
        answer = web.StreamResponse()
        await answer.prepare(request)
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._watches.append((self._path(request), queue))
        while event := await queue.get():
            await answer.write(json.dumps(event).encode() + b"\n")
        return answer

    def end(self) -> None:
        for _, queue in self._watches:
            queue.put_nowait(None)

    async def _secret(self, request: web.Request) -> web.Response:
        found = self.secrets.get(request.match_info["name"])
        return web.json_response(found or {"message": "not found"}, status=200 if found else 404)

    async def _apply(self, request: web.Request) -> web.Response:
        self.node = await request.json()
        return web.json_response(self.node)

    async def _apply_status(self, request: web.Request) -> web.Response:
        assert request.query["fieldManager"] == "modelops-delivery"
        if self.node is None:
            return web.json_response({"message": "not found"}, status=404)
        self.node = await request.json()
        self.reports.append(self.node["status"])
        return web.json_response(self.node)

    def row(self, digest: str) -> dict[str, Any]:
        rows = self.reports[-1]["cache"] if self.reports else []
        return next((row for row in rows if row["digest"] == digest), {"phase": "none"})


@asynccontextmanager
async def served(api: Api) -> AsyncIterator[Api]:
    runner = web.AppRunner(api.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield api
    finally:
        api.end()
        await runner.cleanup()


@asynccontextmanager
async def running(api: Api, root: Path, *namespaces: str) -> AsyncIterator[None]:
    configuration = Configuration()
    configuration.host = api.url
    configuration.client_session_kwargs = {"trust_env": False}
    kube = Kube(configuration)
    task = asyncio.create_task(
        Agent(kube, Store(root), "n1", namespaces=namespaces, clock=time.monotonic).run()
    )
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await kube.close()


async def until(happens: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not happens():
            await asyncio.sleep(0.02)


def scene(tmp_path: Path, story: Callable[[Api], Awaitable[None]], *namespaces: str) -> None:
    async def go() -> None:
        async with served(Api()) as api, running(api, tmp_path / "store", *namespaces):
            await story(api)

    asyncio.run(go())


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    data = tmp_path_factory.mktemp("hub")
    write_repository(data / "acme/chat", ["v1", "v2"], GEOMETRY)
    return Hub(data, tokens=frozenset({TOKEN}), private=frozenset({"acme/chat"}))


@pytest.fixture(scope="module")
def hub_url(hub: Hub) -> Iterator[str]:
    with serving(hub) as url:
        yield url


@pytest.fixture
def version(hub: Hub, hub_url: str) -> dict[str, Any]:
    """A pinned version of a private repository that the operator wants on n1."""
    hub.faults.clear()
    digest = verify.digest(hub.data / "acme/chat/v1")
    return {
        "metadata": {"namespace": "team", "name": "chat-1"},
        "spec": {
            "source": {"huggingFace": {"repo": "acme/chat", "revision": "v1", "endpoint": hub_url}},
            "authSecretRef": {"name": "hub"},
        },
        "status": {
            "artifactDigest": digest,
            "resolved": {"revision": hub.repositories["acme/chat"].refs["v1"]},
            "cache": {"nodes": [{"name": "n1", "phase": "Wanted"}]},
        },
    }


def secret(*, labelled: bool = True, token: str = TOKEN) -> dict[str, Any]:
    labels = {names.DELIVERY_SECRET: "true"} if labelled else {}
    return {
        "metadata": {"name": "hub", "labels": labels},
        "data": {"token": base64.b64encode(token.encode()).decode()},
    }


def test_a_wanted_version_is_fetched_verified_and_reported(
    tmp_path: Path, version: dict[str, Any], hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    digest = version["status"]["artifactDigest"]
    size = sum(path.stat().st_size for path in (hub.data / "acme/chat/v1").iterdir())

    async def story(api: Api) -> None:
        api.secrets["hub"] = secret()
        api.put(VERSIONS, version)
        await until(lambda: api.row(digest)["phase"] == "Ready")
        row = api.row(digest)
        assert (row["namespace"], row["version"]) == ("team", "chat-1")
        assert row["bytes"] == row["totalBytes"] == size
        assert row["verifiedAt"].endswith("Z")
        assert api.reports[-1]["disk"]["freeBytes"] > 0
        assert TOKEN not in json.dumps(api.reports)

    with caplog.at_level(logging.INFO):
        scene(tmp_path, story)
    assert verify.digest(tmp_path / "store" / names.store_folder(digest) / "files") == digest
    assert "team/chat-1 node=n1 ready" in caplog.text
    assert TOKEN not in caplog.text


def test_a_pod_that_landed_here_is_reason_enough(tmp_path: Path, version: dict[str, Any]) -> None:
    digest = version["status"].pop("artifactDigest")
    version["status"] |= {"artifactDigest": digest, "cache": {"nodes": []}}
    labels = {names.VERSION_LABEL: "chat-1", names.DIGEST: names.digest_label(digest)}
    pod = {"metadata": {"namespace": "team", "name": "p", "labels": labels}, "spec": {"nodeName": "n1"}}

    async def story(api: Api) -> None:
        api.secrets["hub"] = secret()
        api.put(VERSIONS, version)
        await until(lambda: bool(api.reports))
        assert api.reports[-1]["cache"] == []
        api.put(PODS, pod)
        await until(lambda: api.row(digest)["phase"] == "Ready")

    scene(tmp_path, story)


def test_only_the_namespaces_that_were_named_are_served(tmp_path: Path, version: dict[str, Any]) -> None:
    digest = version["status"]["artifactDigest"]
    other = json.loads(json.dumps(version))
    other["metadata"] |= {"name": "chat-2", "namespace": "elsewhere"}
    other["status"]["artifactDigest"] = "sha256:" + "1" * 64

    async def story(api: Api) -> None:
        api.secrets["hub"] = secret()
        for item in (other, version):
            api.objects[VERSIONS][item["metadata"]["name"]] = item
        await until(lambda: api.row(digest)["phase"] == "Ready")
        assert [row["digest"] for row in api.reports[-1]["cache"]] == [digest]

    scene(tmp_path, story, "team", "more")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param(None, "found none; create it", id="no Secret"),
        pytest.param(secret(labelled=False), "found it without the label; label it", id="no label"),
        pytest.param(secret(token=""), "put the token there", id="no token in it"),
        pytest.param(
            secret(token="hf_unknownToken"), "renew key token of Secret team/hub", id="a wrong token"
        ),
    ],
)
def test_what_is_wrong_with_the_secret_is_told_in_a_sentence(
    tmp_path: Path, version: dict[str, Any], given: dict[str, Any] | None, words: str
) -> None:
    digest = version["status"]["artifactDigest"]

    async def story(api: Api) -> None:
        if given:
            api.secrets["hub"] = given
        api.put(VERSIONS, version)
        await until(lambda: api.row(digest)["phase"] == "Failed")
        assert words in api.row(digest)["message"]
        assert api.row(digest)["message"].startswith("team/chat-1: ")
        assert "hf_" not in json.dumps(api.reports)

    scene(tmp_path, story)


def test_bytes_that_are_not_the_version_are_removed_and_told(
    tmp_path: Path, version: dict[str, Any], hub: Hub
) -> None:
    digest = "sha256:" + "0" * 64
    version["status"]["artifactDigest"] = digest

    async def story(api: Api) -> None:
        api.secrets["hub"] = secret()
        api.put(VERSIONS, version)
        await until(lambda: api.row(digest)["phase"] == "Failed")
        assert digest in api.row(digest)["message"]
        assert str(verify.digest(hub.data / "acme/chat/v1")) in api.row(digest)["message"]

    scene(tmp_path, story)
    assert list((tmp_path / "store/.staging").iterdir()) == []
    assert list((tmp_path / "store").glob("sha256-*")) == []


def test_what_nobody_wants_any_more_is_stopped(tmp_path: Path, version: dict[str, Any], hub: Hub) -> None:
    digest = version["status"]["artifactDigest"]
    hub.faults.add({"path": "/lfs-objects/*", "bytesPerSecond": 100_000})

    async def story(api: Api) -> None:
        api.secrets["hub"] = secret()
        api.put(VERSIONS, version)
        await until(lambda: api.row(digest)["phase"] == "Fetching")
        api.drop(VERSIONS, "chat-1")
        await until(lambda: api.row(digest)["phase"] == "none")

    scene(tmp_path, story)


def test_the_program_ends_on_sigterm_and_resumes_after_sigkill(
    tmp_path: Path, version: dict[str, Any], hub: Hub
) -> None:
    digest = version["status"]["artifactDigest"]
    hub.faults.add({"path": "/lfs-objects/*", "bytesPerSecond": 2_000_000})
    staged = tmp_path / "store/.staging" / names.store_folder(digest) / "files/chat.gguf"

    def start(url: str) -> subprocess.Popen[str]:
        cluster = {"name": "c", "cluster": {"server": url}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        config = {
            "clusters": [cluster],
            "contexts": [context],
            "users": [{"name": "u", "user": {"token": "t"}}],
        }
        (tmp_path / "config").write_text(yaml.safe_dump({**config, "current-context": "c", "kind": "Config"}))
        command = [sys.executable, "-m", "modelops", "delivery", "agent", "--node", "n1", "--port", "0"]
        command += ["--store", str(tmp_path / "store"), "--kubeconfig", str(tmp_path / "config")]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    async def go() -> str:
        async with served(Api()) as api:
            api.secrets["hub"] = secret()
            api.put(VERSIONS, version)
            first = start(api.url)
            await until(lambda: staged.exists() and staged.stat().st_size > 200_000)
            first.send_signal(signal.SIGKILL)
            text, _ = await asyncio.to_thread(first.communicate)
            there = staged.stat().st_size
            hub.requests.clear()
            second = start(api.url)
            await until(lambda: api.row(digest)["phase"] == "Ready")
            ranges = [row["range"] for row in hub.requests if row["path"].startswith("/lfs-objects/")]
            assert ranges == [f"bytes={there}-"]
            second.send_signal(signal.SIGTERM)
            rest, _ = await asyncio.to_thread(second.communicate)
            assert second.returncode == 0, rest
            return text + rest

    printed = asyncio.run(go())
    assert TOKEN not in printed
    assert "node=n1 stop" in printed
    assert os.path.isdir(tmp_path / "store" / names.store_folder(digest) / "files")
