"""What the stories about GPUs stand on: the chart with agents that meet a pretend NVML, and a namespace."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e import nvml
from e2e.cluster import cache, images
from e2e.cluster.progress import CommandFailed
from e2e.quickstart.platform import REPO, SYSTEM, Platform

NAMESPACE = "gpus"
SERVICE, VERSION, NODE = (
    "inferenceservices.modelops.dev",
    "modelversions.modelops.dev",
    "modelnodes.modelops.dev",
)
_API = "modelops.dev/v1alpha1"
_IMAGE = "nvml"
_MACHINE = "/tmp/machine"
_DOCKERFILE = Path(nvml.__file__).parent / "Dockerfile"


@dataclass
class Stage:
    """The platform, and what these stories ask of it."""

    platform: Platform

    # --- set-up ------------------------------------------------------------------------------------

    def install(self) -> None:
        """Install the chart with an image whose NVML says what a file in the pod says."""
        platform = self.platform
        with cache.staging(cache.root() / "state" / "scratch") as scratch:
            shutil.copy2(nvml.ensure() / nvml.SONAME, scratch)
            base = {"BASE": f"localhost/modelops:{platform.tag}"}
            images.build(_DOCKERFILE, scratch, _IMAGE, platform.tag, base)
        images.push(_IMAGE, platform.tag, platform.cluster.registry)
        # The agent runs where this label says so; its image needs no runtime class of NVIDIA's here.
        platform.install_chart(
            image={"repository": f"{platform.cluster.image_prefix}/{_IMAGE}", "tag": platform.tag},
            environments={},
        )

    def open_namespace(self) -> None:
        """Make the namespace, with a model that needs no approval there, and its one version."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self._apply("v1", "Namespace", NAMESPACE, {}, namespace=None, labels=labels)
        secret = {"stringData": {"token": self.platform.token}}
        self._apply("v1", "Secret", "hub-token", secret, labels={"modelops.dev/delivery": "true"})
        self._apply(_API, "Model", "tiny", {"spec": {"type": "LLM", "owner": {"team": "gpus"}}})
        source = {"endpoint": "http://hub.hub.svc.cluster.local", "repo": REPO, "revision": "v1"}
        version = {
            "modelRef": "tiny",
            "version": "1",
            "source": {"huggingFace": source},
            "authSecretRef": {"name": "hub-token"},
        }
        self._apply(_API, "ModelVersion", "tiny-1", {"spec": version})

    # --- GPUs --------------------------------------------------------------------------------------

    def tell(self, node: str, machine: nvml.Machine) -> None:
        """Let the NVML of a node say what *machine* says from now on."""
        with cache.staging(cache.root() / "state" / "scratch") as scratch:
            machine.write(scratch / "machine")
            text = (scratch / "machine").read_text()
        into = f'printf %s "$0" > {_MACHINE}.partial && mv {_MACHINE}.partial {_MACHINE}'
        self.platform.admin("exec", "-n", SYSTEM, self._agent(node), "--", "sh", "-c", into, text)

    def forget(self, node: str, machine: nvml.Machine) -> None:
        """Start the agent of a node anew, as after a reset of its GPUs, where *machine* is what it finds."""
        gone = self._agent(node)
        self.platform.admin("delete", "pod", "-n", SYSTEM, gone, "--wait=true", "--timeout=60s")
        self.platform.wait(f"an agent on {node}", lambda: self._agent(node) != gone, seconds=60)
        self.platform.wait(f"{node} told", lambda: self._told(node, machine), seconds=60)

    def node(self, name: str) -> dict[str, Any]:
        """Return the status of a ModelNode; empty before its agent's first word."""
        found = {n["metadata"]["name"]: n for n in self.platform.list(NODE, namespace=None)}
        return dict(found.get(name, {}).get("status") or {})

    def _told(self, node: str, machine: nvml.Machine) -> bool:
        try:
            self.tell(node, machine)
        except (CommandFailed, StopIteration):
            return False  # its container is still starting
        return True

    def _agent(self, node: str) -> str:
        pods = self.platform.list("pods", "-l", "app.kubernetes.io/component=nodes", namespace=SYSTEM)
        return next(
            str(p["metadata"]["name"])
            for p in pods
            if p["spec"].get("nodeName") == node and not p["metadata"].get("deletionTimestamp")
        )

    # --- services ----------------------------------------------------------------------------------

    def serve(self, name: str, accelerator: Mapping[str, Any], *, replicas: int = 1) -> None:
        """Ask for a service of the tiny model."""
        spec = {
            "model": {"version": "tiny-1"},
            "engine": {
                "name": "LlamaCpp",
                "contextTokens": 2048,
                "maxConcurrency": 40,
                "extraArgs": ["-t", "1"],
            },
            "accelerator": accelerator,
            "scaling": {"minReplicas": replicas},
            "podTemplate": {"resources": {"limits": {"cpu": "150m"}}},
        }
        self._apply(_API, "InferenceService", name, {"spec": spec})

    def remove(self, *names: str) -> None:
        """Delete services, and wait until their pods are gone."""
        admin = self.platform.admin
        admin("delete", SERVICE, *names, "-n", NAMESPACE, "--timeout=60s")
        chosen = f"modelops.dev/service in ({','.join(names)})"
        admin("wait", "pods", "-n", NAMESPACE, "-l", chosen, "--for=delete", "--timeout=90s")

    def wait_ready(self, name: str, seconds: float = 180) -> None:
        """Wait as users do."""
        ready = ("wait", "--for=condition=Ready", "-n", NAMESPACE, f"{SERVICE}/{name}")
        self.platform.admin(*ready, f"--timeout={seconds:.0f}s")

    def plan(self, name: str) -> dict[str, Any]:
        """Return the plan that stands in the status of a service."""
        return dict(self.platform.get(SERVICE, name, NAMESPACE)["status"]["placement"]["plan"])

    def placed(self, name: str) -> dict[str, Any]:
        """Return the condition Placed of a service; empty while there is none."""
        status = self.platform.get(SERVICE, name, NAMESPACE).get("status") or {}
        return next((c for c in status.get("conditions") or () if c["type"] == "Placed"), {})

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Return the pods of a service that are not going away."""
        found = self.platform.list("pods", "-l", f"modelops.dev/service={name}", namespace=NAMESPACE)
        return [p for p in found if not p["metadata"].get("deletionTimestamp")]

    def _apply(
        self,
        api_version: str,
        kind: str,
        name: str,
        rest: Mapping[str, Any],
        *,
        namespace: str | None = NAMESPACE,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        meta = {"name": name, "labels": dict(labels or {}), **({"namespace": namespace} if namespace else {})}
        manifest = {"apiVersion": api_version, "kind": kind, "metadata": meta, **rest}
        self.platform.apply_text(json.dumps(manifest))
