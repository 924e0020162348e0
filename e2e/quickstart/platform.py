"""What the story stands on: a cluster, our images, the hub and the chart."""

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import Cluster, binaries, cache, images
from e2e.cluster.kubectl import Kubectl, until
from e2e.cluster.progress import run
from e2e.models.tiny import GEOMETRY, write_repository

ROOT = Path(__file__).parents[2]
REPO = "acme/chat"
NAMESPACE = "quickstart"
SYSTEM = "modelops-system"
HUB_HOST = "hub.hub.svc.cluster.local"
DOMAIN = "models.test"
PREVIOUS = "previous"
"""Tag of what plays the release before: the same code, with another image in every default."""
CODE = ("operator", "e2e", "requirements.lock", "pyproject.toml", "README.md", "LICENSE")
AUTHOR, APPROVER, OUTSIDER = "author", "approver", "outsider"
GROUPS = {AUTHOR: ("model-authors",), APPROVER: ("model-approvers",), OUTSIDER: ()}


@dataclass
class Platform:
    """One cluster with the product on it."""

    cluster: Cluster
    say: Callable[[str], None] = print
    token: str = field(default_factory=lambda: f"hf_{secrets.token_hex(16)}")
    tag: str = ""

    def __post_init__(self) -> None:
        self.tag = self.tag or code_tag()

    # --- people ------------------------------------------------------------------------------------

    @property
    def admin(self) -> Kubectl:
        return self.cluster.kubectl

    def person(self, name: str) -> Kubectl:
        """Return kubectl as somebody with a certificate of their own."""
        return Kubectl(self.admin.program, self.kubeconfig(name), self.admin.cache)

    def kubeconfig(self, name: str) -> Path:
        return self.cluster.user_kubeconfig(name, GROUPS[name])

    # --- images ------------------------------------------------------------------------------------

    def image(self, name: str) -> str:
        """Return what pods call one of our images."""
        return f"{self.cluster.image_prefix}/{name}:{self.tag}"

    def build_images(self) -> None:
        """Build the product's image and the test parts', and push them where the nodes pull from."""
        product = images.build(ROOT / "operator" / "Dockerfile", ROOT, "modelops", self.tag)
        parts = images.build(ROOT / "e2e" / "Dockerfile", ROOT, "parts", self.tag, {"BASE": product})
        with cache.staging(self._state()) as scratch:
            write_repository(scratch / "data" / REPO, ["v1", "v2", "v3"], GEOMETRY)
            images.build(
                ROOT / "e2e" / "quickstart" / "hub.Dockerfile", scratch, "hub", self.tag, {"BASE": parts}
            )
        for name in ("modelops", "parts", "hub"):
            images.push(name, self.tag, self.cluster.registry)

    def install_previous(self) -> None:
        """Install the chart as of the release before."""
        images.push("modelops", self.tag, self.cluster.registry, pushed_as=PREVIOUS)
        self.install_chart(
            image={"repository": f"{self.cluster.image_prefix}/modelops", "tag": PREVIOUS},
        )

    def _state(self) -> Path:
        folder = cache.root() / "state" / "scratch"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    # --- hub and chart -----------------------------------------------------------------------------

    def start_hub(self) -> None:
        """Start the model hub; its token is known to nobody but the hub and one Secret."""
        text = (Path(__file__).parent / "hub.yaml").read_text()
        self.apply_text(text.replace("@IMAGE@", self.image("hub")).replace("@TOKEN@", self.token))
        self.admin.rollout("hub", "deployment/hub")

    def install_chart(self, **more: Any) -> None:
        """Install or upgrade the chart as a platform team would."""
        values = {
            "image": {"repository": f"{self.cluster.image_prefix}/modelops", "tag": self.tag},
            "prometheus": {"url": "http://prometheus.monitoring.svc.cluster.local:9090"},
            "gateway": {"name": "modelops", "namespace": "modelops-gateway", "domain": DOMAIN},
            "sources": {"allowedHosts": [HUB_HOST]},
            "engineImages": {"LlamaCpp": images.LLAMA},
            "engineCommands": {"LlamaCpp": ["/usr/bin/llama-server"]},
            "environments": {"prod": {"approvals": 1, "separationOfDuties": True}},
            **more,
        }
        with cache.staging(self._state()) as scratch:
            file = scratch / "values.json"
            file.write_text(json.dumps(values))
            run(
                [
                    binaries.ensure("helm") / "helm",
                    f"--kubeconfig={self.cluster.kubeconfig}",
                    *("upgrade", "--install", "modelops", ROOT / "charts" / "modelops"),
                    *("--namespace", SYSTEM, "--create-namespace", "--values", file),
                    *("--wait", "--timeout", "180s"),
                ]
            )
        self.admin("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        # For some seconds after a CRD is made, the API server's stamping policies do not know its schema.
        self.wait("our kinds can be created", self._takes_versions, seconds=60)

    def _takes_versions(self) -> bool:
        version = yaml.safe_load((ROOT / "config/samples/quickstart/version-1.yaml").read_text())
        version["metadata"]["namespace"] = "default"
        self.apply_text(json.dumps(version), None, "--dry-run=server")
        return True

    def uninstall_chart(self) -> None:
        """Remove the chart as a platform team would."""
        run(
            [
                binaries.ensure("helm") / "helm",
                f"--kubeconfig={self.cluster.kubeconfig}",
                *("uninstall", "modelops", "--namespace", SYSTEM, "--wait", "--timeout", "180s"),
            ]
        )

    # --- small steps -------------------------------------------------------------------------------

    def apply_text(self, text: str, who: Kubectl | None = None, *more: str) -> None:
        """Apply manifests that are not a file of the project."""
        with cache.staging(self._state()) as scratch:
            file = scratch / "objects.yaml"
            file.write_text(text)
            (who or self.admin)("apply", "--server-side", "--force-conflicts", "-f", str(file), *more)

    def modelops(self, person: str, *args: str) -> str:
        """Run the plug-in as one of the people."""
        program = ROOT / ".venv" / "bin" / "kubectl-modelops"
        return run([program, *args, f"--kubeconfig={self.kubeconfig(person)}"])

    def get(self, kind: str, name: str, namespace: str | None = NAMESPACE) -> dict[str, Any]:
        """Return one object."""
        where = ["-n", namespace] if namespace else []
        found: dict[str, Any] = json.loads(self.admin("get", kind, name, *where, "-o", "json"))
        return found

    def list(self, kind: str, *args: str, namespace: str | None = NAMESPACE) -> list[dict[str, Any]]:
        """Return all objects of a kind, of all namespaces when *namespace* is None."""
        where = ["-n", namespace] if namespace else ["-A"]
        found: list[dict[str, Any]] = json.loads(self.admin("get", kind, *where, *args, "-o", "json"))[
            "items"
        ]
        return found

    def condition(self, kind: str, name: str, condition: str) -> dict[str, Any]:
        """Return one condition of an object; empty while there is none."""
        conditions = (self.get(kind, name).get("status") or {}).get("conditions") or ()
        return next((c for c in conditions if c["type"] == condition), {})

    def service(self) -> dict[str, Any]:
        """Return the story's InferenceService."""
        return self.get("inferenceservices.modelops.dev", "chat")

    def rollout(self) -> dict[str, Any]:
        """Return its rollout's status."""
        found: dict[str, Any] = (self.service().get("status") or {}).get("rollout") or {}
        return found

    def pod_ids(self, revision: str) -> set[str]:
        """Return the uids of a revision's pods that are not going away."""
        pods = self.list("pods", "-l", f"modelops.dev/service=chat,modelops.dev/revision={revision}")
        return {p["metadata"]["uid"] for p in pods if not p["metadata"].get("deletionTimestamp")}

    def wait(self, what: str, check: Callable[[], bool], *, seconds: float) -> None:
        """Wait for something to hold."""
        until(what, check, timeout_s=seconds)


def code_tag() -> str:
    """Return a tag that changes with the code, so that a changed image is a real rollout."""
    digest = hashlib.sha256()
    for part in CODE:
        top = ROOT / part
        for file in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if file.is_file() and "__pycache__" not in file.parts and "cluster" not in file.parts:
                digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]
