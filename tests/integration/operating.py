"""The real operator on a real API server: its program, and a node that only says that it is there."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import yaml

from modelops.api import names
from modelops.clients import kinds
from modelops.clients.errors import Conflict, NotFound
from modelops.clients.kinds import Resource
from modelops.clients.kube import Kube, connect
from modelops.plan import Manifest, Ref, ref
from tests.serving.cluster import FACTS
from tests.serving.situations import model_node, node, ours

T = TypeVar("T")
CRDS = Resource("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", False)
DEFINITIONS = Path(__file__).parents[2] / "crds"
DIGEST = "sha256:" + "1a" * 32
MERGE = "application/merge-patch+json"
SERVICE = "InferenceService"
kinds.register(CRDS)


@dataclass(frozen=True, slots=True)
class World:
    """The API server as its administrator sees it."""

    kubeconfig: Path

    def ask(self, question: Callable[[Kube], Awaitable[T]]) -> T:
        """Run a function of a connection and return what it returns."""

        async def main() -> T:
            kube = await connect(str(self.kubeconfig))
            try:
                return await question(kube)
            finally:
                await kube.close()

        return asyncio.run(main())

    def apply(self, *objects: Manifest) -> None:
        async def run(kube: Kube) -> None:
            for obj in objects:
                await kube.apply(obj, field_manager="test")

        self.ask(run)

    def status(self, obj: Manifest) -> None:
        """Write the status of an object that is there."""
        self.ask(lambda kube: kube.patch(ref(obj), {"status": obj["status"]}, MERGE, "status"))

    def delete(self, *objects: Manifest) -> None:
        async def run(kube: Kube) -> None:
            for obj in objects:
                await kube.delete(ref(obj))

        self.ask(run)

    def get(self, api_version: str, kind: str, namespace: str | None, name: str) -> Manifest | None:
        """Return an object, or None when it or its kind is not there."""

        async def run(kube: Kube) -> Manifest | None:
            try:
                return await kube.get(Ref(api_version, kind, namespace, name))
            except NotFound:
                return None

        return self.ask(run)

    def list(self, api_version: str, kind: str, namespace: str) -> list[Manifest]:
        async def run(kube: Kube) -> list[Manifest]:
            resource = kinds.resource_of(api_version, kind)
            return [item async for page in kube.pages(resource, namespace) for item in page.items]

        return self.ask(run)

    def condition(self, namespace: str, type_: str, name: str = "chat") -> Manifest:
        """Return a condition of a service; empty while there is none."""
        service = self.get(names.API_VERSION, SERVICE, namespace, name) or {}
        known = (service.get("status") or {}).get("conditions") or ()
        return next((one for one in known if one["type"] == type_), {})

    # --- CustomResourceDefinitions -------------------------------------------------------------------

    def define(self, *definitions: Manifest) -> None:
        """Install kinds and wait until they are served."""

        async def run(kube: Kube) -> None:
            for one in definitions:
                await _until(lambda one=one: _installed(kube, one))  # type: ignore[misc]
            for one in definitions:
                await _until(lambda one=one: _served(kube, one))  # type: ignore[misc]

        self.ask(run)

    def undefine(self, *definitions: Manifest) -> None:
        """Remove kinds with all their objects and wait until they are gone."""

        async def run(kube: Kube) -> None:
            for one in definitions:
                await kube.delete(ref(one))

            async def are_gone() -> bool:
                return not any([await _served(kube, one) for one in definitions])

            await _until(are_gone)

        self.ask(run)


def our_definitions() -> list[Manifest]:
    """Return the definitions of the product's own kinds."""
    return [yaml.safe_load(path.read_text()) for path in sorted(DEFINITIONS.glob("*.yaml"))]


def definition(group: str, version: str, kind: str, plural: str) -> Manifest:
    """Return a definition of somebody else's namespaced kind that takes everything."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": CRDS.api_version,
        "kind": CRDS.kind,
        "metadata": {
            "name": f"{plural}.{group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {"spec": anything, "status": anything},
                        }
                    },
                }
            ],
        },
    }


async def _installed(kube: Kube, one: Manifest) -> bool:
    try:
        found = await kube.apply(one, field_manager="test")
    except Conflict:
        return False  # the one before is still going
    return "deletionTimestamp" not in found["metadata"]


async def _served(kube: Kube, one: Manifest) -> bool:
    spec = one["spec"]
    resource = Resource(
        f"{spec['group']}/{spec['versions'][0]['name']}", spec["names"]["kind"], spec["names"]["plural"]
    )
    return await kube.serves(resource)


async def _until(question: Callable[[], Awaitable[bool]], seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not await question():
        assert time.monotonic() < end, f"not within {seconds} s"
        await asyncio.sleep(0.1)


# --- a service and what it needs ---------------------------------------------------------------------


def wanted(namespace: str) -> tuple[Manifest, ...]:
    """Return a model, its version and a service in *namespace*."""
    source = {"endpoint": "https://hub.example.com", "repo": "acme/chat", "revision": "v1"}
    version = {
        "modelRef": "chat", "version": "1", "source": {"huggingFace": source}, "createdBy": "author"
    }  # fmt: skip
    service = {
        "model": {"version": "chat-1"},
        "engine": {"name": "LlamaCpp", "contextTokens": 2048, "maxConcurrency": 8},
    }
    found = (
        ours("Model", "chat", {"type": "LLM"}),
        ours("ModelVersion", "chat-1", version),
        ours(SERVICE, "chat", service),
    )
    return tuple({**obj, "metadata": {**obj["metadata"], "namespace": namespace}} for obj in found)


def pinned(namespace: str) -> Manifest:
    """Return the version with the status that its Job would have brought about."""
    facts = {**FACTS, "revision": "5f3c" * 10, "files": 3, "bytes": 669_312_000}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "ModelVersion",
        "metadata": {"namespace": namespace, "name": "chat-1"},
        "status": {"artifactDigest": DIGEST, "resolved": facts},
    }


def begin(world: World, namespace: str) -> None:
    """Let people want a service whose version is pinned already."""
    model, version, service = wanted(namespace)
    world.apply(model, version)
    world.status(pinned(namespace))
    world.apply(service)


class Pretended(threading.Thread):
    """A node with GPUs and the model on it: it says that it is well, and that every pod on it is ready."""

    def __init__(self, world: World, name: str = "node-a") -> None:
        super().__init__(name=f"node {name}", daemon=True)
        self._world = world
        self._node = node(name, "NVIDIA-L4", 23034, 8)
        self._node["status"]["allocatable"] |= {"pods": "50"}
        self._report = model_node(
            name,
            {
                "digest": DIGEST,
                "namespace": "any",
                "version": "chat-1",
                "phase": "Ready",
                "bytes": 669_312_000,
            },
        )
        self._over = threading.Event()

    def __enter__(self) -> "Pretended":
        bare = [{k: v for k, v in one.items() if k != "status"} for one in (self._node, self._report)]
        self._world.apply(*bare)
        self._world.ask(self._beat)
        self._world.status(self._report)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        self._world.delete(self._report, self._node)

    def run(self) -> None:
        while not self._over.wait(0.5):
            with contextlib.suppress(Exception):  # the server may be away in a test
                self._world.ask(self._beat)
                self._world.ask(self._start_pods)

    async def _beat(self, kube: Kube) -> None:
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now}
        status = {**self._node["status"], "conditions": [ready]}
        await kube.patch(ref(self._node), {"status": status}, MERGE, "status")

    async def _start_pods(self, kube: Kube) -> None:
        async for page in kube.pages(kinds.resource_of("v1", "Pod"), labels=names.SERVICE):
            for pod in page.items:
                meta = pod["metadata"]
                at = Ref("v1", "Pod", meta["namespace"], meta["name"])
                if meta.get("deletionTimestamp"):
                    await kube.delete(at)
                elif pod["spec"].get("nodeName") and pod["status"]["phase"] == "Pending":
                    await kube.patch(at, {"status": _running(pod)}, MERGE, "status")


def _running(pod: Manifest) -> Manifest:
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    types = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    return {
        "phase": "Running",
        "startTime": now,
        "conditions": [{"type": t, "status": "True", "lastTransitionTime": now} for t in types],
        "containerStatuses": [
            {
                "name": one["name"],
                "ready": True,
                "restartCount": 0,
                "image": one["image"],
                "imageID": "",
                "state": {"running": {"startedAt": now}},
            }
            for one in pod["spec"]["containers"]
        ],
    }


# --- the program -------------------------------------------------------------------------------------


@dataclass
class Program:
    """One process of the operator."""

    kubeconfig: Path
    folder: Path
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.metrics_port, self.probes_port = _free_port(), _free_port()
        ports = {"metricsPort": self.metrics_port, "probesPort": self.probes_port}
        config = self.folder / "operator.yaml"
        config.write_text(yaml.safe_dump({**self.settings, **ports}))
        self.log = self.folder / "operator.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "modelops", "operator", "--config", config),
                    *("--kubeconfig", self.kubeconfig, "--log-format", "plain"),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def fetch(self, port: int, path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of *name* whose labels hold *labels*; 0 before the first."""
        parts = [f'{key}="{value}"' for key, value in labels.items()]
        lines = self.fetch(self.metrics_port, "/metrics").splitlines()
        found = [line for line in lines if line.startswith((f"{name}{{", f"{name} "))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found if all(part in line for part in parts))

    def is_well(self) -> bool:
        return [self.fetch(self.probes_port, path) for path in ("/healthz", "/readyz")] == ["ok", "ok"]

    def wait(self, what: Callable[[], object], seconds: float = 40) -> float:
        """Wait until *what* is true and return how long it took."""
        start = time.monotonic()
        while not what():
            told = self.log.read_text()[-6000:]
            assert self.process.poll() is None, f"the operator ended; log:\n{told}"
            assert time.monotonic() - start < seconds, f"not within {seconds} s; log:\n{told}"
            time.sleep(0.2)
        return time.monotonic() - start


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
