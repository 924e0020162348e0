"""The story in steps; each does one thing that people do, and waits until it shows."""

import json
import urllib.request
from dataclasses import dataclass
from typing import Any

import yaml

from e2e.load.load import Load, Plan
from e2e.quickstart.platform import APPROVER, AUTHOR, DOMAIN, NAMESPACE, ROOT, Platform

SAMPLES = ROOT / "config" / "samples"
HOST = f"chat.{NAMESPACE}.{DOMAIN}"
BAD_KNOBS = {"ttft": 0.05, "itl": 0.05, "jitter": 0.3, "error_share": 0.3}


@dataclass
class Story:
    """The steps on one platform."""

    platform: Platform

    # --- 3: register -------------------------------------------------------------------------------

    def open_namespace(self) -> None:
        """The administrator makes the namespace, says what environment it is, and who may do what."""
        admin = self.platform.admin
        admin.apply(SAMPLES / "quickstart" / "namespace.yaml")
        admin.apply(SAMPLES / "quickstart" / "roles.yaml")
        self.platform.apply_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {
                        "name": "hub-token",
                        "namespace": NAMESPACE,
                        "labels": {"modelops.dev/delivery": "true"},
                    },
                    "stringData": {"token": self.platform.token},
                }
            )
        )

    def register(self) -> None:
        """The author applies model, version, policy and service."""
        author = self.platform.person(AUTHOR)
        author.apply(
            SAMPLES / "quickstart" / "model.yaml",
            SAMPLES / "quickstart" / "version-1.yaml",
            ROOT / "config" / "policies" / "quickstart.yaml",
            SAMPLES / "quickstart" / "service.yaml",
        )

    def wait_verified(self, version: str, seconds: float = 180) -> None:
        """Wait until every byte of a version was hashed on a node."""
        self.platform.wait(
            f"{version} verified",
            lambda: self._holds("modelversions.modelops.dev", version, "IntegrityVerified"),
            seconds=seconds,
        )

    # --- 4: approve --------------------------------------------------------------------------------

    def approve(self, version: str) -> str:
        """Somebody else approves the version's bytes."""
        return self.platform.modelops(
            APPROVER, "approve", version, "-n", NAMESPACE, "--reason", "Evaluated on the release questions"
        )

    # --- 5: serve ----------------------------------------------------------------------------------

    def wait_ready(self, seconds: float = 180) -> None:
        """Wait as users do."""
        self.platform.admin(
            "wait", "--for=condition=Ready", "-n", NAMESPACE, "inferenceservices.modelops.dev/chat",
            f"--timeout={seconds:.0f}s",
        )  # fmt: skip

    def ask(self, *, tokens: int = 8, stream: bool = False) -> tuple[int, str]:
        """Ask one question through the Gateway and return status and body."""
        host, port = self.platform.cluster.gateway_address()
        body = {
            "model": "chat",
            "messages": [{"role": "user", "content": "How do I reset my password?"}],
            "max_tokens": tokens,
            "stream": stream,
        }
        request = urllib.request.Request(
            f"http://{host}:{port}/v1/chat/completions",
            data=json.dumps(body).encode(),
            headers={"Host": HOST, "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()

    # --- 6: roll out -------------------------------------------------------------------------------

    def load(self) -> Load:
        """Return the users: 20 short requests a second, and 20 long streams at every moment."""
        host, port = self.platform.cluster.gateway_address()
        # Streams are meant to last 30 s, so that they last ten also where a pod with few of them is faster;
        # and none is so long that the policy's drainTimeout of 2m could cut it on a slow pod.
        plan = Plan(
            url=f"http://{host}:{port}",
            model="chat",
            host_header=HOST,
            stream_seconds=30,
            spare_streams=8,
            most_tokens=450,
        )
        return Load(plan)

    def roll_out_second(self) -> None:
        """The author registers the next version, and wants it served."""
        author = self.platform.person(AUTHOR)
        author.apply(SAMPLES / "rollout" / "version-2.yaml")

    def serve(self, version: str, engine: dict[str, Any] | None = None) -> None:
        """The author names another version in the service."""
        service = yaml.safe_load((SAMPLES / "quickstart" / "service.yaml").read_text())
        service["spec"]["model"]["version"] = version
        if engine:
            service["spec"] |= {"engine": engine, "accelerator": {"count": 1}}
        self.platform.apply_text(json.dumps(service), self.platform.person(AUTHOR))

    def bad_engine(self) -> dict[str, Any]:
        """Return an engine that is worse in a way that only metrics show."""
        return {
            "name": "Custom",
            "image": self.platform.image("parts"),
            "custom": {
                "command": ["python", "-m", "e2e.engine"],
                "args": [
                    "--as",
                    "llamacpp",
                    "-m",
                    "/model/files/chat.gguf",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    "8080",
                    "-a",
                    "chat",
                    "--metrics",
                ],
            },
            "env": [{"name": "STAND_IN_KNOBS", "value": json.dumps(BAD_KNOBS)}],
        }

    def roll_out_third(self) -> None:
        """The author registers a version, has it approved, and serves it with the bad engine."""
        second = self.platform.get("modelversions.modelops.dev", "chat-1")
        spec = {k: v for k, v in second["spec"].items() if k != "createdBy"}
        spec["version"] = "3"
        spec["source"]["huggingFace"]["revision"] = "v3"
        third = {
            "apiVersion": second["apiVersion"],
            "kind": second["kind"],
            "metadata": {"name": "chat-3", "namespace": NAMESPACE},
            "spec": spec,
        }
        self.platform.apply_text(json.dumps(third), self.platform.person(AUTHOR))
        self.serve("chat-3", self.bad_engine())
        self.wait_verified("chat-3")
        self.approve("chat-3")

    def phase(self) -> str:
        """Return where the rollout stands."""
        return str(self.platform.rollout().get("phase", ""))

    def weight(self) -> int:
        """Return the candidate's accepted share of requests in percent."""
        return int((self.platform.rollout().get("traffic") or {}).get("observed") or 0)

    def wait_phase(self, *phases: str, seconds: float) -> str:
        """Wait until the rollout is in one of *phases*, and return which."""
        self.platform.wait(f"rollout {' or '.join(phases)}", lambda: self.phase() in phases, seconds=seconds)
        return self.phase()

    def wait_weight(self, weight: int, seconds: float) -> None:
        """Wait until the accepted route gives the candidate *weight* percent."""
        self.platform.wait(f"weight {weight} %", lambda: self.weight() == weight, seconds=seconds)

    def _holds(self, kind: str, name: str, condition: str) -> bool:
        return bool(self.platform.condition(kind, name, condition).get("status") == "True")
