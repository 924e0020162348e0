"""What the bench of the loop fills the server with: services that have come to rest, and all around them.

One service of each namespace is brought there by the real plans (`tests.serving.cluster`).  The others are
copies of it under another name; what depends on the name, the hashes of what was applied, is reckoned anew.
So the operator finds nothing to do, and its passes are those of a quiet cluster.
"""

import base64
import hashlib
import json
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from modelops.api.names import APPLIED_HASH
from modelops.artifacts.canonical import canonical
from modelops.controllers.context import GATE, GATE_TOPIC, version_spec_hash
from modelops.controllers.execute import applied_hash
from modelops.governance import policies
from modelops.governance.countersign import GateState, Record, mac
from modelops.plan import Manifest
from modelops.rollouts.state import Phase
from tests.serving import situations
from tests.serving.cluster import KEY, Cluster, last_words
from tests.serving.situations import DIGESTS

NAMESPACES = 20
PODS = 2
"""Of each service."""
POD_BYTES = 4300
"""Without managedFields, which the server adds: 6 kB with them."""
GPUS_PER_NODE = 8
HISTORY = 20
SERVICE, NODE = "svc-00000", "gpu-00000"
"""Names that are replaced; all of one length, so that sizes do not change."""
SERVICES_PER_MODEL = 5


@dataclass(frozen=True)
class Data:
    """How much there is: *services*, as small as the plans let them be, or *realistic*."""

    services: int
    is_realistic: bool = False

    @property
    def nodes(self) -> int:
        """Nodes of 8 GPUs for every pod when realistic, else one large node a namespace."""
        return math.ceil(self.services * PODS / GPUS_PER_NODE) + 1 if self.is_realistic else NAMESPACES

    def prepare(self) -> None:
        """Bring the services of which all others are copies to rest."""
        for _ in self._templates():
            pass

    def around(self) -> Iterator[Manifest]:
        """Yield everything that is not of one service."""
        yield from gate()
        for number in range(self.nodes):
            yield _node(number, GPUS_PER_NODE if self.is_realistic else 2 * self.services)
        for template in self._templates():
            yield from template.shared
            if self.is_realistic:
                yield from template.registry(self.services // SERVICES_PER_MODEL // NAMESPACES)
        if self.is_realistic:
            yield from (_model_node(number, template.digests) for number in range(self.nodes))

    def settled(self) -> Iterator[Manifest]:
        """Yield every service with its children and pods."""
        for number, template in self._each():
            yield from template.service(number, self._node_of(number))

    def bare(self) -> Iterator[Manifest]:
        """Yield every service as a user makes it."""
        for number, template in self._each():
            yield template.asked(number)

    def _each(self) -> Iterator[tuple[int, "Template"]]:
        templates = list(self._templates())
        return ((number, templates[number % NAMESPACES]) for number in range(self.services))

    def _node_of(self, number: int) -> int:
        return number * PODS // GPUS_PER_NODE if self.is_realistic else number % NAMESPACES

    def _templates(self) -> Iterator["Template"]:
        return (_template(number, self.is_realistic) for number in range(NAMESPACES))


# --- one namespace ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Template:
    """One namespace with one settled service."""

    namespace: str
    shared: tuple[Manifest, ...]
    own: tuple[str, ...]
    """The objects of the service, as texts."""
    wanted: Mapping[tuple[str, str], str]
    """What the plan wanted of its children, by kind and name."""
    uids: tuple[str, ...]
    records: tuple[str, ...]
    """A model with its versions and approvals, as texts."""
    digests: tuple[str, ...]

    def service(self, number: int, node: int) -> Iterator[Manifest]:
        """Yield the objects of the service *number*, whose pods are on *node*."""
        for text in self.own:
            obj = json.loads(self._renamed(text, number, node))
            notes = obj["metadata"].get("annotations") or {}
            if APPLIED_HASH in notes:
                before = json.loads(text)
                wanted = self.wanted[before["kind"], before["metadata"]["name"]]
                notes[APPLIED_HASH] = applied_hash(json.loads(self._renamed(wanted, number, node)))
            yield obj

    def asked(self, number: int) -> Manifest:
        """Return the service *number* before anybody looked at it."""
        found = json.loads(self._renamed(self.own[0], number, 0))
        meta = {name: found["metadata"][name] for name in ("name", "namespace")}
        return {**found, "metadata": meta} | {"status": {}}

    def registry(self, models: int) -> Iterator[Manifest]:
        """Yield models that no service runs, with their versions and approvals, which count."""
        for number in range(models):
            texts = (text.replace("chat", f"mod-{number:05d}") for text in self.records)
            copies = [json.loads(text.replace('"uid":"', f'"uid":"{number}-')) for text in texts]
            hashes = {_name(obj): version_spec_hash(obj) for obj in copies if obj["kind"] == "ModelVersion"}
            for obj in copies:
                if obj["kind"] == "ModelVersion":
                    obj["status"]["specHash"] = hashes[_name(obj)]
                elif obj["kind"] == "ModelApproval":
                    obj["spec"]["specHash"] = hashes[obj["spec"]["versionRef"]]
                    _sign(obj)
                yield obj

    def _renamed(self, text: str, number: int, node: int) -> str:
        for uid in self.uids:
            text = text.replace(uid, f"{uid[:-12]}{number + 1:012x}")
        return text.replace(SERVICE, f"svc-{number:05d}").replace(NODE, f"gpu-{node:05d}")


_made: dict[tuple[int, bool], Template] = {}


def _template(number: int, is_realistic: bool) -> Template:
    """Return the template of a namespace; made once."""
    key = (number, is_realistic)
    if key not in _made:
        _made[key] = _bring(f"team-{number:02d}", is_realistic=is_realistic)
    return _made[key]


def _bring(namespace: str, *, is_realistic: bool) -> Template:
    """Bring one service to rest; a realistic one has been rolled out twice."""
    cluster = Cluster()
    cluster.server.now = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    green = GateState(cluster.now - timedelta(days=1), None)
    cluster.observations.put(GATE, GATE_TOPIC, green)
    around = (situations.namespace(), situations.model(), situations.policy(), _node(0, 100))
    cluster.put(*(_placed(obj, namespace) for obj in around)).settle()
    _versions(cluster, namespace, "chat-1")
    spec = _spec(is_realistic=is_realistic)
    service = _placed(situations.service(SERVICE, **spec), namespace)
    cluster.put(service).settle().until(SERVICE, Phase.STABLE).run(60)
    if is_realistic:
        _versions(cluster, namespace, "chat-1", "chat-2")
        wanted = {"spec": {"model": {"version": "chat-2"}}}
        cluster.edit("InferenceService", namespace, SERVICE, wanted).settle()
        cluster.until(SERVICE, Phase.PROGRESSING).until(SERVICE, Phase.STABLE, 3600).run(300)
    return _template_of(cluster, namespace, is_realistic=is_realistic)


def _spec(*, is_realistic: bool) -> dict[str, Any]:
    """Return what a user asks: little, or what a grown service has."""
    env = [{"name": f"SETTING_{i:02d}", "value": f"value-{i:02d}"} for i in range(12 if is_realistic else 3)]
    return {
        "engine": {"name": "LlamaCpp", "contextTokens": 2048, "maxConcurrency": 8, "env": env},
        "accelerator": {"count": 1},
        "scaling": {"minReplicas": PODS, "maxReplicas": PODS},
    }


def _versions(cluster: Cluster, namespace: str, *names: str) -> None:
    """Have the last of the versions resolved, its bytes proven with those before, and approved."""
    name = names[-1]
    cluster.put(_placed(situations.version(name), namespace)).settle()
    words = last_words(artifactDigest=DIGESTS[name], revision=f"{name[-1]}f3c" * 10)
    if len(names) > 1:
        for job in cluster.of("Job"):
            if job["metadata"]["labels"].get("modelops.dev/version") != name:
                cluster.remove("Job", namespace, job["metadata"]["name"])
    cluster.finish_job(words).settle()
    caches = [{**situations.artifact(one), "namespace": namespace} for one in names]
    cluster.put(situations.model_node(NODE, *caches)).settle()
    cluster.server.now += timedelta(seconds=20)
    version = cluster.get("ModelVersion", namespace, name)
    cluster.put(_placed(situations.approval(version), namespace)).settle()


def _placed(obj: Manifest, namespace: str) -> Manifest:
    if obj["kind"] == "Namespace":
        return {**obj, "metadata": {**obj["metadata"], "name": namespace}}
    return (
        {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}
        if "namespace" in obj["metadata"]
        else obj
    )


def _template_of(cluster: Cluster, namespace: str, *, is_realistic: bool) -> Template:
    objects = [json.loads(json.dumps(obj)) for obj in cluster.server.objects.values()]
    own = [obj for obj in objects if SERVICE in obj["metadata"]["name"]]
    own.sort(key=lambda obj: obj["kind"] != "InferenceService")
    shared = [obj for obj in objects if obj not in own and obj["kind"] not in ("Node", "ModelNode", "Job")]
    shared = [obj for obj in shared if obj["kind"] != "Pod"]
    plans = [one.plan for one in cluster.passes if one.key.name == SERVICE]
    wanted = {(m["kind"], m["metadata"]["name"]): _text(m) for m in plans[-1].apply}
    for obj in own:
        if obj["kind"] == "Pod":
            _fatten(obj)
    if is_realistic:
        _age(own[0])
    records = ("Model", "ModelVersion", "ModelApproval")
    nodes = [obj for obj in objects if obj["kind"] == "ModelNode"] if not is_realistic else []
    return Template(
        namespace=namespace,
        shared=(*shared, *nodes),
        own=tuple(_text(obj) for obj in own),
        wanted=wanted,
        uids=tuple(obj["metadata"]["uid"] for obj in own),
        records=tuple(_text(obj) for obj in objects if obj["kind"] in records),
        digests=tuple(DIGESTS.values()),
    )


# --- shapes ------------------------------------------------------------------------------------------


def _text(obj: Manifest) -> str:
    return json.dumps(obj, separators=(",", ":"))


def _node(number: int, gpus: int) -> Manifest:
    return situations.node(f"gpu-{number:05d}", "NVIDIA-L4", 23034, gpus)


def _model_node(number: int, digests: Iterable[str]) -> Manifest:
    """Return what both agents of a node report."""
    gpus = [
        {
            "index": index,
            "uuid": f"GPU-{uuid.UUID(int=number * 8 + index)}",
            "product": "NVIDIA-L4",
            "healthy": True,
            "memoryBytes": 23034 * 2**20,
            "freeBytes": 22500 * 2**20,
            "computeCapability": "8.9",
        }
        for index in range(GPUS_PER_NODE)
    ]
    entries = [
        {
            "digest": d,
            "namespace": "team-00",
            "version": "chat-1",
            "phase": "Ready",
            "bytes": 1,
            "totalBytes": 1,
        }
        for d in digests
    ]
    found = situations.model_node(f"gpu-{number:05d}", *entries)
    found["status"]["gpus"] = gpus
    return found


def _fatten(pod: Manifest) -> None:
    """Give a pod what the API server and the kubelet add to one of ours: 6 kB in all."""
    pod["spec"] |= {
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "tolerations": [
            {
                "key": f"node.kubernetes.io/{key}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": 300,
            }
            for key in ("not-ready", "unreachable")
        ],
    }
    pod["status"] |= {"hostIP": "10.0.0.1", "podIP": "10.1.2.3", "qosClass": "Burstable"}
    note = pod["metadata"].setdefault("annotations", {})
    note["example.com/note"] = "x" * max(0, POD_BYTES - len(_text(pod)))


def _age(service: Manifest) -> None:
    """Give a service what grows with the years: annotations of tools, and 20 entries of history.

    The plans keep no history in status yet, and would remove it there; so it stands beside the status, where
    it takes as much room.
    """
    meta = service["metadata"]
    asked = {name: service[name] for name in ("apiVersion", "kind", "spec")}
    entry = {
        "v": 1,
        "uid": meta["uid"],
        "seq": 1,
        "prev": DIGESTS["chat-1"],
        "time": "2026-01-05T09:00:20.123456Z",
        "type": "RolloutPromoted",
        "actor": {"kind": "Operator", "name": "modelops-operator"},
        "from": "chat-1",
        "to": "chat-2",
        "reason": "harm is below one percent with evidence of 120:1",
        "hash": DIGESTS["chat-2"],
    }
    history = [{**entry, "seq": number, "hash": f"sha256:{number:064x}"} for number in range(HISTORY)]
    meta["annotations"] = {
        "kubectl.kubernetes.io/last-applied-configuration": _text(asked),
        "argocd.argoproj.io/tracking-id": f"models:InferenceService:{meta['namespace']}/{SERVICE}",
    }
    service["history"] = history


def gate() -> Iterator[Manifest]:
    """Yield the policies that the operator proves, made the day before."""
    stamp = f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}"
    for manifest in policies.required(stamping=True):
        found: Manifest = json.loads(_text(manifest))
        found["metadata"]["creationTimestamp"] = stamp
        yield found


def _sign(approval: Manifest) -> None:
    """Countersign an approval as the operator did when it came."""
    meta, mark = approval["metadata"], approval["status"]["countersign"]
    spec = hashlib.sha256(canonical(approval["spec"])).hexdigest()
    mark["mac"] = mac(base64.b64decode(KEY), Record(meta["uid"], meta["creationTimestamp"], spec))


def _name(obj: Manifest) -> str:
    return str(obj["metadata"]["name"])
