"""What people do meanwhile: one version after the other, and a service that comes and goes."""

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import yaml

from e2e.cluster.progress import CommandFailed
from e2e.quickstart.platform import AUTHOR, NAMESPACE, Platform
from e2e.quickstart.story import SAMPLES

SERVICE = "inferenceservices.modelops.dev"
VERSIONS = ("chat-1", "chat-2")
CONTEXT_TOKENS = 2048
PATIENCE_S = 60.0
"""How long a rollout may stand at its last step before somebody promotes it by hand."""
VISIT_S = 25.0
"""How long the service that comes and goes stays, and stays away."""
LOOK_S = 3.0


@dataclass(frozen=True, slots=True)
class Push:
    """What somebody wanted served; no two are alike, so each is a rollout of its own."""

    version: str
    tokens: int


@dataclass
class People(threading.Thread):
    """The author, in a thread of its own, until ``rest``."""

    platform: Platform
    did: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        super().__init__(name="people", daemon=True)
        self._over = threading.Event()
        self._count = 0
        self.served = Push("chat-1", CONTEXT_TOKENS)
        """What served last; wanted again when something else was rolled back."""
        self._wanted = self.served
        self._pushed_at = time.monotonic()
        self._visited_at = 0.0
        self._visits = False
        self._promoted = ""

    def __hash__(self) -> int:
        return id(self)

    def rest(self) -> None:
        """Start nothing more."""
        self._over.set()
        self.join()

    def run(self) -> None:
        while not self._over.wait(LOOK_S):
            try:
                self._look(pushes=True)
                self._visit()
            except (CommandFailed, TimeoutError, LookupError):
                self.did["times the API server was away"] += 1

    def settle(self, seconds: float) -> bool:
        """Let what was begun end: wait for the rollout, and want again what serves where it was rolled back.

        Returns whether the last of it is stable, and the service that comes and goes is gone.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if self._visits:
                    self._leave()
                if self._look(pushes=False) and not self._visits:
                    return True
            except (CommandFailed, TimeoutError, LookupError):
                pass
            time.sleep(LOOK_S)
        return False

    def _look(self, *, pushes: bool) -> bool:
        """Do what somebody would who looks at the service now; return whether it rests on what is wanted."""
        service = self.platform.service()
        status: dict[str, Any] = service.get("status") or {}
        if status.get("observedGeneration") != service["metadata"]["generation"]:
            return False
        phase = (status.get("rollout") or {}).get("phase")
        if phase == "RolledBack":
            self.did["rollouts rolled back"] += 1
            self.want(self.served)
        elif phase == "Stable" and not status.get("candidate"):
            if self._wanted != self.served:
                self.served = self._wanted
                self.did["rollouts promoted"] += 1
            if not pushes:
                return True
            self._count += 1
            self.want(Push(VERSIONS[self._count % 2], CONTEXT_TOKENS - self._count))
            self.did["rollouts begun"] += 1
        else:
            self._promote(status)
        return False

    def _promote(self, status: dict[str, Any]) -> None:
        rollout = status.get("rollout") or {}
        run = rollout.get("runId", "")
        is_last = (rollout.get("traffic") or {}).get("observed") == 50
        if not is_last or run == self._promoted or time.monotonic() - self._pushed_at < PATIENCE_S:
            return
        self.want(self._wanted, {"action": "Promote", "runId": run})
        self._promoted = run
        self.did["promotions by hand"] += 1

    def want(self, push: Push, action: dict[str, Any] | None = None) -> None:
        """Apply the service."""
        self.platform.apply_text(json.dumps(service(push, action)), self.platform.person(AUTHOR))
        if action is None:
            self._wanted, self._pushed_at = push, time.monotonic()

    def _visit(self) -> None:
        if time.monotonic() - self._visited_at < VISIT_S:
            return
        self._visited_at = time.monotonic()
        if self._visits:
            self._leave()
        else:
            visitor = service(Push("chat-1", CONTEXT_TOKENS))
            visitor["metadata"]["name"] = "visitor"
            visitor["spec"].pop("scaling", None)
            self.platform.apply_text(json.dumps(visitor), self.platform.person(AUTHOR))
            self._visits = True
            self.did["services made"] += 1

    def _leave(self) -> None:
        self.platform.admin(
            "delete", SERVICE, "visitor", "-n", NAMESPACE, "--ignore-not-found", "--wait=false"
        )
        self._visits = False


def service(push: Push, action: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the service as somebody would apply it."""
    wanted: dict[str, Any] = yaml.safe_load((SAMPLES / "quickstart" / "service.yaml").read_text())
    wanted["spec"]["model"]["version"] = push.version
    wanted["spec"]["engine"]["contextTokens"] = push.tokens
    wanted["spec"]["scaling"] = {"minReplicas": 2}
    if action:
        wanted["spec"]["rollout"] = action
    return wanted
