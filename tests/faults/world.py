"""What everybody else does: pods start, Jobs end, the gateway accepts, and requests follow the route.

It watches every change of the server, and writes down each instant at which traffic has nowhere to go.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelops.api import names
from modelops.plan import Manifest
from tests.fakeapi.api import FakeApi
from tests.fakeapi.state import Change
from tests.serving.cluster import Traffic, last_words, owner, parents, pod_of
from tests.serving.situations import DIGESTS

READY_AFTER = 2.0
ACCEPTED_AFTER = 2.0
TICK_SECONDS = 0.5


@dataclass
class World:
    """Kubelets, the Job controller, a gateway, and Prometheus' counts."""

    api: FakeApi
    traffic: Traffic = field(default_factory=Traffic)
    outages: list[str] = field(default_factory=list)
    """Every instant at which requests were sent to nobody."""
    flows: dict[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    """What the gateway does, by route: (Service, weight)."""
    _seen: dict[tuple[str, int], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.api.state.hooks.append(self._changed)

    async def run(self) -> None:
        """Answer for ever."""
        while True:
            self.step()
            await asyncio.sleep(TICK_SECONDS)

    def step(self) -> None:
        self._pods()
        self._jobs()
        self._routes()

    # --- kubelets and controllers --------------------------------------------------------------------

    def _pods(self) -> None:
        wanted = {}
        for deployment in self.api.all("Deployment"):
            name = deployment["metadata"]["name"]
            for number in range(deployment["spec"]["replicas"]):
                wanted[f"{name}-{number}"] = deployment
        there = {p["metadata"]["name"]: p for p in self.api.all("Pod") if names.REVISION in _labels(p)}
        for name, pod in there.items():
            if name not in wanted:
                self.api.delete("Pod", pod["metadata"]["namespace"], name)
        for name, deployment in wanted.items():
            since = self._since(name, 0)
            is_ready = self.api.seconds() - since >= READY_AFTER
            if name not in there or (is_ready and not _is_ready(there[name])):
                self.api.seed(pod_of(deployment, name, ready=is_ready))
        self._seen = {key: at for key, at in self._seen.items() if key[0] in wanted or key[1]}

    def _jobs(self) -> None:
        for job in self.api.all("Job"):
            meta = job["metadata"]
            if self.api.get("Pod", meta["namespace"], f"{meta['name']}-x7k2p") or job.get("status"):
                continue
            version = _labels(job)[names.VERSION_LABEL]
            words = last_words(artifactDigest=DIGESTS[version], revision=f"{version[-1]}f3c" * 10)
            self.api.seed(_spoken(job, words))
            self._report(job, {"conditions": [{"type": "Complete", "status": "True"}]})

    def _routes(self) -> None:
        for route in self.api.all("HTTPRoute"):
            meta = route["metadata"]
            if not route["spec"].get("rules"):
                continue
            since = self._since(meta["uid"], meta["generation"])
            answer = parents(route)
            if self.api.seconds() - since >= ACCEPTED_AFTER and route.get("status") != answer:
                self.flows[meta["name"]] = tuple(_backends(route))
                self._report(route, answer)
        there = {route["metadata"]["name"] for route in self.api.all("HTTPRoute")}
        self.flows = {name: flow for name, flow in self.flows.items() if name in there}

    def _report(self, obj: Manifest, status: Manifest) -> None:
        meta = obj["metadata"]
        self.api.edit(obj["kind"], meta["namespace"], meta["name"], lambda found: found.update(status=status))

    def _since(self, what: str, generation: int) -> float:
        return self._seen.setdefault((what, generation), self.api.seconds())

    # --- requests ------------------------------------------------------------------------------------

    def _changed(self, change: Change) -> None:
        """Send requests: by what the route says, and by what the gateway still does."""
        if change.now.place.plural in ("events", "leases"):
            return
        for route in self.api.all("HTTPRoute"):
            self._send("the route", change, tuple(_backends(route)))
        for flow in self.flows.values():
            self._send("the gateway", change, flow)

    def _send(self, who: str, change: Change, backends: tuple[tuple[str, int], ...]) -> None:
        if not self.api.all("InferenceService"):
            return  # the service is deleted: everything of it goes
        for service, weight in backends:
            if weight and not self._endpoints(service):
                place = change.now.place
                self.outages.append(
                    f"{self.api.seconds():.1f}: {who} sends {weight} % to {service}, which has no ready "
                    f"endpoint, after {change.type} of {place.plural} {place.name}"
                )

    def _endpoints(self, service: str) -> int:
        """Return how many pods answer for a Service; without it, or its Deployment, none does."""
        namespace = next((s["metadata"]["namespace"] for s in self.api.all("InferenceService")), "")
        if not self.api.get("Service", namespace, service) or not self.api.get(
            "Deployment", namespace, service
        ):
            return 0
        return sum(
            _is_ready(p) and p["metadata"]["name"].startswith(f"{service}-") for p in self.api.all("Pod")
        )


def _backends(route: Manifest) -> Iterator[tuple[str, int]]:
    for rule in route["spec"].get("rules") or ():
        yield from ((b["name"], b.get("weight", 1)) for b in rule.get("backendRefs") or ())


def _labels(obj: Manifest) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


def _is_ready(pod: Mapping[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or ())


def _spoken(job: Manifest, words: str) -> Manifest:
    """Return the pod of a resolve Job that has said its last words."""
    meta = job["metadata"]
    ended = {"exitCode": 0, "reason": "Completed", "message": words}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{meta['name']}-x7k2p",
            "namespace": meta["namespace"],
            "labels": {**meta["labels"], "batch.kubernetes.io/job-name": meta["name"]},
            "ownerReferences": [owner("batch/v1", "Job", meta["name"], meta["uid"])],
        },
        "spec": {"nodeName": "node-a", "containers": [{"name": "resolve", "resources": {}}]},
        "status": {
            "phase": "Succeeded",
            "containerStatuses": [
                {"name": "resolve", "ready": False, "restartCount": 0, "state": {"terminated": ended}}
            ],
        },
    }
