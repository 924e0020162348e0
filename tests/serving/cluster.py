"""A cluster without machines: a small API server, and what kubelets, gateways and agents would answer.

The operator's own parts are real: kinds, store, observer, roots and executor.
"""

import asyncio
import base64
import copy
import tempfile
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from modelops.analysis.frozen import History
from modelops.analysis.samples import RoleWindow, Window
from modelops.api import names
from modelops.artifacts.canonical import canonical
from modelops.clients.errors import Conflict, NotFound
from modelops.clients.kube import Kube
from modelops.controllers.clock import Clock
from modelops.controllers.context import GATE, GATE_TOPIC
from modelops.controllers.execute import Executor
from modelops.controllers.kinds import assemble
from modelops.controllers.observations import Observations
from modelops.controllers.observe import Observer
from modelops.controllers.reading import Reading
from modelops.controllers.seam import Parts
from modelops.controllers.services import MEASURED
from modelops.controllers.store import Key, Store
from modelops.governance.countersign import GateState
from modelops.plan import Event, Manifest, Plan, Ref
from modelops.rollouts.state import Phase, Rollout, Room
from modelops.serving.snapshot import Measured
from modelops.serving.status import read_rollout
from modelops.settings import Settings
from tests.fakeapi.patches import json_patch
from tests.serving.schema import complaints

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
GATE_SINCE = datetime(2026, 1, 1, tzinfo=UTC)
KEY = base64.b64encode(b"a key for tests, thirty-two byte").decode()
BOUNDS = (0.1, 0.25, 0.5, 1.0, float("inf"))
USUAL = (0.3, 0.62, 0.9, 0.985, 1.0)
SLOW = (0.05, 0.25, 0.6, 0.9, 1.0)
"""Shares of the requests within each bound."""
WINDOWED = ("ttft", "tpot")

SETTINGS: dict[str, Any] = {
    "prometheus": {"url": "http://prometheus:9090"},
    "gateway": {"name": "edge", "namespace": "gateways", "domain": "models.example.com"},
    "images": {"operator": "registry.example.com/modelops:1.0"},
    "sources": {"allowedHosts": ["hub.example.com"]},
    "environments": {"prod": {"approvals": 1, "separationOfDuties": True}},
}


class Server:
    """Objects as the API server keeps them, with the verbs that plans need."""

    def __init__(self) -> None:
        self.objects: dict[Key, Manifest] = {}
        self.version = 1000
        self.writes: list[str] = []
        """Writes that changed something."""
        self.now = NOW
        self.made: dict[Key, int] = {}

    def put(self, obj: Manifest) -> Manifest:
        """Store *obj* as somebody else wrote it; fill in what the server fills in."""
        obj = copy.deepcopy(obj)
        meta = obj["metadata"]
        key = key_of(obj)
        before = self.objects.get(key)
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        meta.setdefault("uid", before["metadata"]["uid"] if before else self._new_uid(key))
        stamp = before["metadata"]["creationTimestamp"] if before else f"{self.now:%Y-%m-%dT%H:%M:%SZ}"
        meta.setdefault("creationTimestamp", stamp)
        same = before is not None and before.get("spec") == obj.get("spec")
        generation = before["metadata"].get("generation", 1) if before else 0
        meta["generation"] = generation if same else generation + 1
        self.objects[key] = obj
        return copy.deepcopy(obj)

    def _new_uid(self, key: Key) -> str:
        """Return another uid each time that the name is given."""
        self.made[key] = self.made.get(key, 0) + 1
        return _uid(key, self.made[key])

    def load(self, obj: Manifest) -> None:
        """Keep *obj* as it was stored once."""
        self.objects[key_of(obj)] = copy.deepcopy(obj)
        self.made[key_of(obj)] = 1
        self.version = max(self.version, int(obj["metadata"]["resourceVersion"]))

    async def get(self, wanted: Ref) -> Manifest:
        key = Key(wanted.kind, wanted.namespace or "", wanted.name)
        if key not in self.objects:
            raise NotFound(str(key))
        return copy.deepcopy(self.objects[key])

    async def create(self, manifest: Manifest) -> Manifest:
        key = key_of(manifest)
        if key in self.objects:
            raise Conflict(f"{key}: is there")
        self.writes.append(f"create {key}")
        return self.put(manifest)

    async def apply(self, manifest: Manifest) -> Manifest:
        manifest = copy.deepcopy(manifest)
        key = key_of(manifest)
        before = self.objects.get(key)
        meta = manifest["metadata"]
        version = meta.pop("resourceVersion", None)
        assert before is not None or version is None, f"{key}: is gone"
        if before is not None:
            if version not in (None, before["metadata"]["resourceVersion"]):
                raise Conflict(f"{key}: wanted version {version}")
            if before["kind"] == "Job":
                assert before["spec"] == manifest["spec"], "a Job's template cannot be changed"
            kept = {name: before["metadata"][name] for name in ("uid", "creationTimestamp", "generation")}
            wanted = {**manifest, "metadata": {**meta, **kept}}
            if "status" in before:
                wanted["status"] = before["status"]
            if wanted == {
                **before,
                "metadata": {k: v for k, v in before["metadata"].items() if k != "resourceVersion"},
            }:
                return copy.deepcopy(before)
            manifest = wanted
        self.writes.append(f"apply {key}")
        return self.put(manifest)

    async def apply_status(self, manifest: Manifest) -> Manifest:
        key = key_of(manifest)
        before = self.objects[key]
        if manifest["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]:
            raise Conflict(f"{key}: is newer")
        wrong = complaints(key.kind, "status", manifest["status"])
        assert not wrong, wrong
        if before.get("status") == manifest["status"]:
            return copy.deepcopy(before)
        self.writes.append(f"status {key}")
        return self.put({**before, "status": manifest["status"]})

    async def change(self, wanted: Ref, operations: Iterable[Manifest]) -> Manifest:
        key = Key(wanted.kind, wanted.namespace or "", wanted.name)
        if key not in self.objects:
            raise NotFound(str(key))
        before = self.objects[key]
        if wanted.resource_version != before["metadata"]["resourceVersion"]:
            raise Conflict(f"{key}: is newer")
        self.writes.append(f"change {key}")
        return self.put(json_patch(before, operations))

    async def delete(self, wanted: Ref) -> None:
        key = Key(wanted.kind, wanted.namespace or "", wanted.name)
        found = self.objects.get(key)
        if found is None:
            return
        assert wanted.uid in ("", found["metadata"]["uid"])
        if wanted.resource_version not in ("", found["metadata"]["resourceVersion"]):
            raise Conflict(f"{key}: is newer")
        self.writes.append(f"delete {key}")
        del self.objects[key]


class Told:
    """The events of all plans."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def tell(self, about: Ref, event: Event) -> None:
        if event not in self.events:
            self.events.append(event)


@dataclass
class Pass:
    """One pass: the root that was planned, what was seen, and what was decided."""

    key: Key
    seen: Any
    plan: Plan


class Keys(deque[Key]):
    """The work queue without its clocks: each key at most once."""

    def add(self, key: Key) -> None:
        if key not in self:
            self.append(key)

    def add_all_after(self, seconds: float, name: str, keys: Callable[[], Iterable[Key]]) -> None:
        for key in tuple(keys()):
            self.add(key)

    def purge(self, key: Key) -> None:
        while key in self:
            self.remove(key)


@dataclass
class Traffic:
    """What Prometheus would count in each window of a run, by role.

    What is equal in both roles goes with the weight of the step; other numbers are as they are given.
    """

    stable: Mapping[str, Any] = field(default_factory=lambda: {"requests": 3000, "errors": 6})
    canary: Mapping[str, Any] = field(default_factory=lambda: {"requests": 3000, "errors": 6})
    away_since: datetime | None = None

    def at(self, weight: int) -> Mapping[str, Any]:
        """Return what the candidate counts with a share of *weight* percent."""
        if self.canary != self.stable or not 0 < weight < 100:
            return self.canary
        part = weight / (100 - weight)
        return {**self.canary, **{name: round(part * self.stable[name]) for name in ("requests", "errors")}}


class Cluster:
    """Everything that one story needs."""

    def __init__(self, settings: Mapping[str, Any] = SETTINGS, *, gate_is_green: bool = True) -> None:
        self.server = Server()
        self.keys = Keys()
        self.told = Told()
        self.passes: list[Pass] = []
        self.due: dict[Key, datetime] = {}
        self.checks: list[Callable[[Cluster, str, Plan], list[str]]] = []
        self.traffic = Traffic()
        self.restart(settings, gate_is_green=gate_is_green)

    def again(self) -> "Cluster":
        """Kill the operator and start another one, which looks at everything."""
        self.restart()
        self.due.clear()
        return self.measure()

    def restart(self, settings: Mapping[str, Any] = SETTINGS, *, gate_is_green: bool = True) -> None:
        """Start the operator anew: all it knows comes from the server again."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "keys"
            path.write_text(KEY)
            checked = Settings.model_validate({**settings, "gate": {"hmacKeyFile": str(path)}})
            self.store = Store()
            self.observations = Observations(self.keys.add)
            kube = cast(Kube, self.server)
            self.parts = Parts(checked, kube, self.store, self.observations, _Now(self.server))
            self.kinds = assemble(self.parts)
        for watched in self.kinds.watched:
            for name, values in watched.indexes:
                self.store.add_index(watched.resource.kind, name, values)
        queue = cast(Any, self.keys)
        self.observer = Observer(self.kinds.watched, self.store, queue, self.observations, self.kinds.waiting)
        self.observer.change_hooks += [one.changed for one in self.kinds.figures]
        self.executor = Executor(kube, self.store, self.observer, cast(Any, self.told), self.kinds.watched)
        self.roots = {root.resource.kind: root for root in self.kinds.roots}
        if gate_is_green:
            self.observations.put(GATE, GATE_TOPIC, GateState(GATE_SINCE, None))
        for obj in list(self.server.objects.values()):
            self.show(obj)

    @property
    def now(self) -> datetime:
        return self.server.now

    # --- what people and other controllers do ---------------------------------------------------------

    def put(self, *objects: Manifest) -> "Cluster":
        """Write objects, as users and other controllers do, and let the operator see them."""
        for obj in objects:
            self.show(self.server.put(obj))
        return self

    def remove(self, kind: str, namespace: str, name: str) -> "Cluster":
        """Delete an object, and let the operator see it."""
        gone = self.server.objects.pop(Key(kind, namespace, name))
        self.observer.observe(kind, "DELETED", gone)
        return self

    def get(self, kind: str, namespace: str, name: str) -> Manifest:
        return copy.deepcopy(self.server.objects[Key(kind, namespace, name)])

    def edit(self, kind: str, namespace: str, name: str, patch: Mapping[str, Any]) -> "Cluster":
        """Change an object by a merge patch."""
        return self.put(merged(self.get(kind, namespace, name), patch))

    def of(self, kind: str) -> list[Manifest]:
        """Return the objects of one kind by name."""
        found = [obj for key, obj in self.server.objects.items() if key.kind == kind]
        return sorted(copy.deepcopy(found), key=lambda obj: obj["metadata"]["name"])

    def show(self, obj: Manifest) -> None:
        """Let the operator see an object."""
        assert self.observer.observe(obj["kind"], "ADDED", obj) or obj["kind"] == "Secret"

    def reading(self, key: Key) -> Reading:
        """Return what a pass of *key* reads through."""
        return Reading(key, self.store, self.observations)

    # --- the operator ---------------------------------------------------------------------------------

    def look(self, key: Key) -> Plan | None:
        """Give one pass, as a worker does."""
        row = self.store.get(*key)
        root = self.roots.get(key.kind)
        if row is None or root is None:
            return None
        reading = self.reading(key)
        seen = root.gather(key, reading)
        if seen is None:
            return None
        plan = root.plan(seen, self.now)
        self.passes.append(Pass(key, seen, plan))
        for check in self.checks:
            assert check(self, key.kind, plan) == [], plan.status
        if plan.after is None:
            self.due.pop(key, None)
        else:
            self.due[key] = self.now + max(plan.after, timedelta(0))
        try:
            asyncio.run(self.executor.execute(root.resource, reading, row, plan))
        except Conflict:
            self.keys.add(key)
        for gone in plan.delete:
            self._gone(gone)
        return plan

    def _gone(self, gone: Ref) -> None:
        key = Key(gone.kind, gone.namespace or "", gone.name)
        row = self.store.get(*key)
        if row is not None and key not in self.server.objects:
            watched = next(one for one in self.kinds.watched if one.resource.kind == gone.kind)
            self.observer.forget(watched.resource.kind, row)

    def settle(self, limit: int = 200) -> "Cluster":
        """Give passes until nothing is left to do."""
        for _ in range(limit):
            if not self.keys:
                return self
            self.look(self.keys.popleft())
        raise AssertionError(f"never comes to rest: {self.passes[-1].key} {self.server.writes[-6:]}")

    def resync(self) -> "Cluster":
        """Look at every object of ours again."""
        for kind in self.roots:
            for row in self.store.rows(kind):
                self.keys.add(Key(kind, row.namespace, row.name))
        return self.settle()

    # --- time -----------------------------------------------------------------------------------------

    def run(self, seconds: int, *, pods: bool = True, gateway: bool = True) -> "Cluster":
        """Let time pass, with kubelets, gateways and Prometheus at work."""
        for _ in range(seconds):
            self.server.now += timedelta(seconds=1)
            self.answer(pods=pods, gateway=gateway)
            self.measure()
            self.wake().settle()
        return self

    def wake(self) -> "Cluster":
        """Ask for a pass of every root whose plan said that its time has come."""
        for key, at in list(self.due.items()):
            if at <= self.now:
                del self.due[key]
                self.keys.add(key)
        return self

    def until(self, service: str, phase: Phase, seconds: int = 600, **more: bool) -> "Cluster":
        for _ in range(seconds):
            if self.rollout(service).phase is phase:
                return self
            self.run(1, **more)
        raise AssertionError(f"never {phase}: {self.rollout(service)}")

    def brink(self, root: Key, is_it: Callable[[Manifest], bool], seconds: int = 600) -> "Cluster":
        """Let time pass until the next pass of *root* would write such a status; it is not given."""
        for _ in range(seconds):
            self.server.now += timedelta(seconds=1)
            self.answer().measure().wake()
            while self.keys:
                key = self.keys.popleft()
                if key == root and is_it(self._planned(key).status or {}):
                    return self
                self.look(key)
        raise AssertionError(f"never comes there: {self.rollout(root.name)}")

    def _planned(self, key: Key) -> Plan:
        root = self.roots[key.kind]
        plan: Plan = root.plan(root.gather(key, self.reading(key)), self.now)
        return plan

    def answer(self, *, pods: bool = True, gateway: bool = True) -> "Cluster":
        """Let kubelets start pods and gateways accept routes."""
        if pods:
            self.start_pods()
        if gateway:
            self.accept_routes()
        return self

    # --- kubelets -------------------------------------------------------------------------------------

    def start_pods(self, *, ready: bool = True, only: str = "", **more: Any) -> "Cluster":
        """Give every Deployment its pods, and take those away whose Deployment is gone."""
        wanted = {}
        for deployment in self.of("Deployment"):
            name, namespace = deployment["metadata"]["name"], deployment["metadata"]["namespace"]
            for number in range(deployment["spec"]["replicas"]):
                wanted[Key("Pod", namespace, f"{name}-{number}")] = deployment
        for key in [
            k
            for k in self.server.objects
            if k.kind == "Pod" and names.REVISION in labels(self.server.objects[k])
        ]:
            if key not in wanted:
                self.remove(*key)
        for key, deployment in wanted.items():
            if only and only not in key.name:
                continue
            pod = pod_of(deployment, key.name, ready=ready, **more)
            if changes(self.server.objects.get(key), pod):
                self.put(pod)
        return self

    def finish_job(self, message: str, *, exit_code: int = 0) -> "Cluster":
        """End the only Job with these last words."""
        (job,) = self.of("Job")
        meta = job["metadata"]
        at = f"{self.now:%Y-%m-%dT%H:%M:%SZ}"
        ended = {
            "exitCode": exit_code,
            "reason": "Completed" if exit_code == 0 else "Error",
            "message": message,
        }
        self.put(
            {
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
                    "phase": "Succeeded" if exit_code == 0 else "Failed",
                    "containerStatuses": [
                        {"name": "resolve", "ready": False, "restartCount": 0, "state": {"terminated": ended}}
                    ],
                },
            }
        )
        status: Manifest = {"conditions": [{"type": "Complete", "status": "True"}], "completionTime": at}
        if exit_code:
            text = "Job has reached the specified backoff limit"
            failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": text}
            status = {"conditions": [{**failed, "lastTransitionTime": at}]}
        return self.put({**self.get("Job", meta["namespace"], meta["name"]), "status": status})

    # --- the gateway ----------------------------------------------------------------------------------

    def accept_routes(self, **more: Any) -> "Cluster":
        for route in (*self.of("HTTPRoute"), *self.of("GRPCRoute")):
            wanted = {**route, "status": parents(route, **more)}
            if wanted != route:
                self.put(wanted)
        return self

    # --- Prometheus -----------------------------------------------------------------------------------

    def measure(self) -> "Cluster":
        """Leave what was counted since the candidate got ready, for every run that is measured."""
        for service in self.of("InferenceService"):
            meta = service["metadata"]
            state = read_rollout(service.get("status") or {})
            measured = None
            is_baking = state.phase is Phase.BAKING
            has_roles = is_baking or (state.candidate is not None and state.stable is not None)
            if has_roles and state.ready_at is not None:
                seconds = (service["status"].get("rollout") or {}).get("windowSeconds", 60)
                end = self.traffic.away_since or self.now
                closed = int((end - state.ready_at).total_seconds()) // seconds
                measured = counted(
                    state.run_id,
                    int(state.ready_at.timestamp()),
                    seconds,
                    closed,
                    self.traffic,
                    idle_from=state.phase_at.timestamp() if is_baking and state.phase_at else None,
                    step=step_of(state),
                )
            key = Key("InferenceService", meta["namespace"], meta["name"])
            self.observations.put(key, MEASURED, measured)
        return self

    def rollout(self, service: str) -> Any:
        found = next(s for s in self.of("InferenceService") if s["metadata"]["name"] == service)
        return read_rollout(found.get("status") or {})


class _Now(Clock):
    """The clock of the story."""

    def __init__(self, server: Server) -> None:
        super().__init__(wall=lambda: 0.0, monotonic=lambda: 0.0)
        self._server = server

    def now(self) -> datetime:
        return self._server.now


# --- shapes ------------------------------------------------------------------------------------------


def key_of(obj: Manifest) -> Key:
    return Key(obj["kind"], obj["metadata"].get("namespace") or "", obj["metadata"]["name"])


def labels(obj: Manifest) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


def _uid(key: Key, number: int = 1) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{key} {number}"))


def owner(api_version: str, kind: str, name: str, uid: str) -> Manifest:
    return {"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": True}


def merged(value: Any, patch: Any) -> Any:
    """Return *value* after a JSON merge patch."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    out = dict(value) if isinstance(value, Mapping) else {}
    for name, item in patch.items():
        if item is None:
            out.pop(name, None)
        else:
            out[name] = merged(out.get(name), item)
    return out


def changes(before: Manifest | None, after: Manifest) -> bool:
    if before is None:
        return True
    return any(before.get(part) != after.get(part) for part in ("spec", "status"))


def pod_of(
    deployment: Manifest,
    name: str,
    *,
    ready: bool,
    restarts: int = 0,
    waiting: Mapping[str, str] | None = None,
    last: Mapping[str, Any] | None = None,
    unschedulable: str = "",
) -> Manifest:
    """Return a pod of the Deployment as its kubelet reports it."""
    meta, template = deployment["metadata"], deployment["spec"]["template"]
    terms = template["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    node = terms[0]["preference"]["matchExpressions"][0]["values"][0]
    conditions = [{"type": "Ready", "status": str(ready)}]
    if unschedulable:
        refused = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": unschedulable,
        }
        conditions = [refused]
    state: Manifest = {"waiting": dict(waiting)} if waiting else {"running": {}}
    engine: Manifest = {"name": "engine", "ready": ready, "restartCount": restarts, "state": state}
    if last:
        engine["lastState"] = {"terminated": dict(last)}
    spec = {
        "containers": [
            {"name": c["name"], "resources": c["resources"]} for c in template["spec"]["containers"]
        ]
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": meta["namespace"],
            "labels": dict(template["metadata"]["labels"]),
            "ownerReferences": [
                owner("apps/v1", "ReplicaSet", meta["name"], _uid(Key("ReplicaSet", "", meta["name"])))
            ],
        },
        "spec": spec if unschedulable else {"nodeName": node, **spec},
        "status": {
            "phase": "Pending" if unschedulable else "Running",
            "conditions": conditions,
            "containerStatuses": [] if unschedulable else [engine],
        },
    }


def parents(
    route: Manifest,
    *,
    accepted: str = "True",
    resolved: str = "True",
    message: str = "",
    generation: int | None = None,
    partly: bool = False,
    alone: bool = False,
) -> Manifest:
    """Return the status that the Gateway gives to the route; *alone* is without a word on references."""
    seen = route["metadata"]["generation"] if generation is None else generation

    def condition(type_: str, status: str, reason: str) -> Manifest:
        return {
            "type": type_,
            "status": status,
            "reason": reason,
            "message": message,
            "observedGeneration": seen,
        }

    found = [
        condition("Accepted", accepted, "Accepted" if accepted == "True" else "NoMatchingListenerHostname"),
        condition("ResolvedRefs", resolved, "ResolvedRefs" if resolved == "True" else "BackendNotFound"),
    ]
    if alone:
        del found[1]
    if partly:
        found.append(condition("PartiallyInvalid", "True", "UnsupportedValue"))
    parent = route["spec"]["parentRefs"][0]
    controller = "gateway.example.com/controller"
    return {"parents": [{"parentRef": parent, "controllerName": controller, "conditions": found}]}


def counted(
    run_id: str,
    origin: int,
    seconds: int,
    closed: int,
    traffic: Traffic,
    *,
    idle_from: float | None = None,
    step: tuple[float, int] | None = None,
) -> Measured:
    """Return what Prometheus counted: equal windows since *origin*, and an hour of stable before it.

    From *idle_from* on the version that served before gets no request.  From the beginning of the *step* on
    requests are shared by its weight.
    """

    def window(start: float) -> Window:
        is_idle = idle_from is not None and start >= idle_from
        stable = {"requests": 0, "errors": 0} if is_idle else traffic.stable
        is_shared = step is not None and start >= step[0]
        canary = traffic.at(step[1]) if step is not None and is_shared else traffic.canary
        return Window(start, start + seconds, role_window(stable), role_window(canary))

    windows = tuple(window(float(origin + i * seconds)) for i in range(closed))
    before = [{"pod": role_window(traffic.stable)} for _ in range(20)]
    history = History.of(before, dict.fromkeys(WINDOWED, BOUNDS))
    return Measured(run_id, windows, history, traffic.away_since)


def step_of(state: Rollout) -> tuple[float, int] | None:
    """Return when the step of a run began, and its weight; None where numbers of pods are the shares."""
    if not state.is_at_step or state.step_at is None or state.room is Room.SPLIT:
        return None
    return state.step_at.timestamp(), state.weight


def role_window(said: Mapping[str, Any]) -> RoleWindow:
    requests = int(said["requests"])
    shares = SLOW if said.get("slow") else USUAL
    row = tuple(round(share * requests) for share in shares)
    return RoleWindow(1, requests, int(said["errors"]), dict.fromkeys(WINDOWED, row))


def last_words(**more: Any) -> str:
    """Return what a Job says about chat-1, with *more* instead."""
    said = {
        "v": 1,
        "verdict": "Resolved",
        "revision": "5f3c" * 10,
        "artifactDigest": "sha256:" + "1a" * 32,
        "files": 3,
        "bytes": 669_312_000,
        "facts": FACTS,
        **more,
    }
    return canonical(said).decode()


FACTS: dict[str, Any] = {
    "uri": "hf://acme/chat@" + "5f3c" * 10,
    "architecture": "llama",
    "parameters": 1_100_048_384,
    "quantization": "Q4_K_M",
    "contextTokens": 2048,
    "layers": 22,
    "hiddenSize": 2048,
    "attentionHeads": 32,
    "kvHeads": 4,
    "headDim": 64,
    "vocabulary": 32000,
    "weightsBytes": 667_814_912,
    "mainFile": "chat-q4_k_m.gguf",
    "format": "GGUF",
    "license": "apache-2.0",
    "gated": False,
    "remoteCode": False,
    "pickle": False,
    "provenance": {"parameters": "GGUF header", "license": "hub"},
}
