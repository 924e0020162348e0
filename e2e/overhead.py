"""How long from an approval to the first token, beside the engine's own start: ``make bench-overhead``.

A version's bytes lie on the node already and its service waits for one approval.  What follows the
approval is watched as it happens, and the engine's own start, from its process to its first good answer,
is taken off.  Instants are seconds of the machine's clock since boot, in which the kernel also tells when
a process began.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

import e2e.cluster
from e2e.quickstart.platform import APPROVER, DOMAIN, NAMESPACE, REPO, Platform
from e2e.quickstart.story import Story
from modelops.api.names import API_VERSION
from modelops.clients.kinds import resource_of
from modelops.clients.kube import Kube, connect

ROUNDS = 5
GOAL_SECONDS = 5.0
LIMIT_SECONDS = 120.0
POLL_SECONDS = 0.02
"""So often the engine and the gateway are asked; also how exact those two instants are."""

STEPS = (
    ("approval", "the approval is stored"),
    ("admitted", "the operator counts it"),
    ("deployment", "the Deployment exists"),
    ("pod", "its pod exists"),
    ("bound", "the pod has a node"),
    ("engine", "the engine's process starts"),
    ("answers", "the engine answers for its model"),
    ("ready", "the pod is Ready"),
    ("routed", "the gateway has accepted the route"),
    ("token", "the first token came through the gateway"),
)
"""Every instant, in the order in which they usually come."""
OWN = ("engine", "answers")
"""Between these the engine is on its own."""


@dataclass(slots=True)
class Instants:
    """When each step of one round was first seen, in seconds since boot."""

    at: dict[str, float] = field(default_factory=dict)

    def note(self, step: str, at: float | None = None) -> None:
        """Remember the first time only."""
        self.at.setdefault(step, now() if at is None else at)

    @property
    def is_whole(self) -> bool:
        return all(name in self.at for name, _ in STEPS)


def now() -> float:
    """Return the seconds since boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


# --- the account -------------------------------------------------------------------------------------


def parts(at: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds of every step, the whole, the engine's own share, and what is left: the overhead.

    A step that was seen before the one above it took no time of its own.
    """
    found: dict[str, float] = {}
    latest = at["approval"]
    for name, _ in STEPS[1:]:
        found[name] = max(0.0, at[name] - latest)
        latest = max(latest, at[name])
    own = at[OWN[1]] - at[OWN[0]]
    whole = at["token"] - at["approval"]
    return {**found, "whole": whole, "ownStart": own, "overhead": whole - own}


def account(rounds: list[dict[str, float]]) -> dict[str, Any]:
    """Return the median of each part, every overhead, and whether the goal is met."""
    middle = {name: round(statistics.median(r[name] for r in rounds), 3) for name in rounds[0]}
    return {
        "rounds": len(rounds),
        "medianSeconds": middle,
        "overheadSeconds": [round(r["overhead"], 3) for r in rounds],
        "goalSeconds": GOAL_SECONDS,
        "met": middle["overhead"] <= GOAL_SECONDS,
    }


# --- a round -----------------------------------------------------------------------------------------


class Round:
    """One version that is approved, served and asked."""

    def __init__(self, platform: Platform, kube: Kube, number: int) -> None:
        self._platform = platform
        self._kube = kube
        self._version = f"chat-{number}"
        self._service = f"fast-{number}"
        self._seen = Instants()
        self._address = ""

    def prepare(self) -> None:
        """Register the version and its service, and wait until only the approval is missing."""
        platform = self._platform
        source = {"endpoint": "http://hub.hub.svc.cluster.local", "repo": REPO, "revision": "v1"}
        version = {
            "modelRef": "chat",
            "version": self._version,
            "source": {"huggingFace": source},
            "authSecretRef": {"name": "hub-token"},
        }
        service = {
            "model": {"version": self._version},
            "engine": {"name": "LlamaCpp", "contextTokens": 2048, "extraArgs": ["-t", "1"]},
        }
        for kind, name, spec in (
            ("ModelVersion", self._version, version),
            ("InferenceService", self._service, service),
        ):
            meta = {"name": name, "namespace": NAMESPACE}
            platform.apply_text(
                json.dumps({"apiVersion": API_VERSION, "kind": kind, "metadata": meta, "spec": spec})
            )
        kind = "modelversions.modelops.dev"
        platform.wait(
            f"{self._version} on a node",
            lambda: platform.condition(kind, self._version, "IntegrityVerified").get("status") == "True",
            seconds=LIMIT_SECONDS,
        )

    async def run(self) -> Instants:
        """Approve, and return when everything was seen."""
        watching = [
            asyncio.create_task(task)
            for task in (
                self._follow(API_VERSION, "ModelApproval", self._approval),
                self._follow(API_VERSION, "ModelVersion", self._admitted),
                self._follow("apps/v1", "Deployment", self._deployment),
                self._follow("v1", "Pod", self._pod),
                self._follow("gateway.networking.k8s.io/v1", "HTTPRoute", self._route),
                self._ask_engine(),
                self._ask_gateway(),
            )
        ]
        try:
            await asyncio.sleep(1)  # the watches stand
            await asyncio.to_thread(
                self._platform.modelops,
                APPROVER,
                "approve",
                self._version,
                "-n",
                NAMESPACE,
                "--reason",
                "Bench",
            )
            async with asyncio.timeout(LIMIT_SECONDS):
                while not {"token", "ready", "routed", "answers"} <= self._seen.at.keys():
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            for task in watching:
                task.cancel()
            await asyncio.wait(watching)
        self._seen.note("engine", await asyncio.to_thread(self._began))
        return self._seen

    def remove(self) -> None:
        """Take the service away, so that the next round finds the machine as this one did."""
        admin = self._platform.admin
        kind = "inferenceservices.modelops.dev"
        admin("delete", kind, self._service, "-n", NAMESPACE, "--timeout=60s")
        chosen = f"modelops.dev/service={self._service}"
        admin("wait", "pods", "-n", NAMESPACE, "-l", chosen, "--for=delete", "--timeout=90s")

    # --- what is watched -----------------------------------------------------------------------------

    async def _follow(self, api_version: str, kind: str, look: Callable[[Mapping[str, Any]], None]) -> None:
        resource = resource_of(api_version, kind)
        version = ""
        async for page in self._kube.pages(resource, NAMESPACE):
            version = page.resource_version
        async for event in self._kube.watch(resource, version, NAMESPACE, seconds=600):
            if event.type in ("ADDED", "MODIFIED"):
                look(event.object)

    def _approval(self, obj: Mapping[str, Any]) -> None:
        if obj["spec"].get("versionRef") == self._version:
            self._seen.note("approval")

    def _admitted(self, obj: Mapping[str, Any]) -> None:
        if obj["metadata"]["name"] == self._version and _holds(obj, "Approved"):
            self._seen.note("admitted")

    def _deployment(self, obj: Mapping[str, Any]) -> None:
        if self._is_ours(obj):
            self._seen.note("deployment")

    def _pod(self, obj: Mapping[str, Any]) -> None:
        if not self._is_ours(obj):
            return
        self._seen.note("pod")
        if obj["spec"].get("nodeName"):
            self._seen.note("bound")
        self._address = obj.get("status", {}).get("podIP") or self._address
        if _holds(obj, "Ready"):
            self._seen.note("ready")

    def _route(self, obj: Mapping[str, Any]) -> None:
        parents = obj.get("status", {}).get("parents") or ()
        wanted = obj["metadata"]["generation"]
        accepted = any(
            c["type"] == "Accepted" and c["status"] == "True" and c.get("observedGeneration") == wanted
            for parent in parents
            for c in parent.get("conditions") or ()
        )
        carries = any(rule.get("backendRefs") for rule in obj["spec"].get("rules") or ())
        if self._is_ours(obj) and accepted and carries:
            self._seen.note("routed")

    def _is_ours(self, obj: Mapping[str, Any]) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return bool(labels.get("modelops.dev/service") == self._service)

    # --- what is asked -------------------------------------------------------------------------------

    async def _ask_engine(self) -> None:
        """Ask the pod itself until its engine has the model."""
        async with ClientSession(timeout=ClientTimeout(total=2)) as session:

            async def is_well() -> bool:
                if not self._address:
                    return False
                async with session.get(f"http://{self._address}:8000/health") as answer:
                    return answer.status == 200

            await _until(is_well)
        self._seen.note("answers")

    async def _ask_gateway(self) -> None:
        """Ask as users do until a token comes."""
        host, port = self._platform.cluster.gateway_address()
        url = f"http://{host}:{port}/v1/chat/completions"
        headers = {"Host": f"{self._service}.{NAMESPACE}.{DOMAIN}"}
        question = [{"role": "user", "content": "Hello"}]
        body = {"model": self._service, "messages": question, "max_tokens": 2, "stream": True}
        async with ClientSession(timeout=ClientTimeout(total=10)) as session:

            async def has_token() -> bool:
                async with session.post(url, json=body, headers=headers) as answer:
                    return answer.status == 200 and b"data:" in await answer.content.readany()

            await _until(has_token)
        self._seen.note("token")

    def _began(self) -> float:
        """Return when the engine's process started."""
        chosen = f"modelops.dev/service={self._service}"
        (pod,) = self._platform.list("pods", "-l", chosen)
        faults = self._platform.cluster.faults
        pid = faults.pids(NAMESPACE, pod["metadata"]["name"], "engine")[0]
        # Field 22 of stat(5), counted after the name in brackets, which may hold spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    while True:
        try:
            if await holds():
                return
        except (ClientError, TimeoutError):
            pass  # not there yet
        await asyncio.sleep(POLL_SECONDS)


def _holds(obj: Mapping[str, Any], condition: str) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(c["type"] == condition and c["status"] == "True" for c in conditions)


# --- all of them -------------------------------------------------------------------------------------


def main() -> int:
    """Print the account as one JSON object and a last line; 1 when the goal is missed."""
    cluster = e2e.cluster.open("overhead")
    cluster.down()
    try:
        cluster.up(say=_say, background=True)
        platform = Platform(cluster, say=_say)
        platform.build_images()
        cluster.gateway_address()
        platform.start_hub()
        platform.install_chart()
        Story(platform).open_namespace()
        model = {"type": "LLM", "owner": {"team": "bench"}, "governance": {"approvals": {"required": 1}}}
        meta = {"name": "chat", "namespace": NAMESPACE}
        platform.apply_text(
            json.dumps({"apiVersion": API_VERSION, "kind": "Model", "metadata": meta, "spec": model})
        )
        rounds = [asyncio.run(_round(platform, number)) for number in range(1, ROUNDS + 1)]
    finally:
        cluster.down()
    found = account(rounds)
    print(json.dumps(found, indent=1))
    middle = found["medianSeconds"]
    print(
        f"{found['rounds']} rounds: {middle['whole']:.1f} s from approval to first token, "
        f"{middle['ownStart']:.1f} s of them the engine's own start; overhead "
        f"{middle['overhead']:.1f} s, goal {GOAL_SECONDS:.0f} s {'met' if found['met'] else 'missed'}"
    )
    return 0 if found["met"] else 1


async def _round(platform: Platform, number: int) -> dict[str, float]:
    kube = await connect(str(platform.cluster.kubeconfig))
    try:
        one = Round(platform, kube, number)
        await asyncio.to_thread(one.prepare)
        seen = await one.run()
        await asyncio.to_thread(one.remove)
    finally:
        await kube.close()
    found = parts(seen.at)
    _say(f"round {number}: overhead {found['overhead']:.2f} s")
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
