"""The objects of the scale bench: nodes with GPUs, and services with all that they need."""

from dataclasses import dataclass
from typing import Any

from modelops.api.names import API_VERSION
from modelops.clients.kinds import resource_of
from modelops.plan import Manifest

ENVIRONMENT = "prod"
PER_NAMESPACE = 50
GPUS_PER_NODE = 8
SPARE = 1.1
"""Nodes there are for each that is needed."""
APPROVERS = "scale-approvers"
GATEWAY_NAMESPACE = "gateways"
GATEWAY = "edge"
HUB = "hub.example.com"
FACTS: dict[str, Any] = {
    "uri": "hf://acme/chat",
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
"""What the header of a TinyLlama 1.1B in GGUF says, as a resolve Job tells it."""


@dataclass(frozen=True, slots=True)
class Place:
    """One service, its model and its version: they share a name."""

    namespace: str
    name: str


def places(count: int) -> list[Place]:
    """Return *count* places over namespaces of `PER_NAMESPACE`."""
    return [Place(f"team-{number // PER_NAMESPACE:03d}", f"m{number:05d}") for number in range(count)]


def nodes(count: int) -> list[Manifest]:
    """Return the nodes that *count* services with one GPU each need, and some to spare."""
    return [node(number) for number in range(-(-int(count * SPARE) // GPUS_PER_NODE))]


def node(number: int) -> Manifest:
    """Return a node as its kubelet and GPU feature discovery would make it."""
    name = f"gpu-{number:04d}"
    amounts = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": str(GPUS_PER_NODE)}
    gpu = {
        "present": "true",
        "product": "NVIDIA-L4",
        "memory": "23034",
        "count": str(GPUS_PER_NODE),
        "family": "ada-lovelace",
        "compute.major": "8",
        "compute.minor": "9",
        "replicas": "1",
        "sharing-strategy": "none",
    }
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "topology.kubernetes.io/zone": f"zone-{number % 3}",
        "nvidia.com/cuda.driver-version.major": "580",
        **{f"nvidia.com/gpu.{key}": value for key, value in gpu.items()},
    }
    meta = {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}}
    status = {"allocatable": amounts, "capacity": amounts}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": status}


def namespaces(where: list[Place]) -> list[Manifest]:
    """Return the namespaces, each held to `restricted`, and who may approve there."""
    out: list[Manifest] = []
    for name in sorted({place.namespace for place in where}):
        labels = {"modelops.dev/environment": ENVIRONMENT, "pod-security.kubernetes.io/enforce": "restricted"}
        out.append({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "modelops-approver"}
        who = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": APPROVERS}
        out.append(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "approvers", "namespace": name},
                "roleRef": role,
                "subjects": [who],
            }
        )
    return out


def gateway() -> list[Manifest]:
    """Return the Gateway that all routes belong to; kwok accepts them."""
    api = "gateway.networking.k8s.io/v1"
    listener = {
        "name": "http",
        "port": 80,
        "protocol": "HTTP",
        "allowedRoutes": {"namespaces": {"from": "All"}},
    }
    spec = {"gatewayClassName": "bench", "listeners": [listener]}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": GATEWAY_NAMESPACE}},
        {
            "apiVersion": api,
            "kind": "GatewayClass",
            "metadata": {"name": "bench"},
            "spec": {"controllerName": "bench.modelops.dev/gateway"},
        },
        {
            "apiVersion": api,
            "kind": "Gateway",
            "metadata": {"name": GATEWAY, "namespace": GATEWAY_NAMESPACE},
            "spec": spec,
        },
    ]


def flow_schema(namespace: str, account: str) -> Manifest:
    """Return a FlowSchema for the operator alone, at the level it would have anyway: so it is measured."""
    everything = {
        "verbs": ["*"],
        "apiGroups": ["*"],
        "resources": ["*"],
        "clusterScope": True,
        "namespaces": ["*"],
    }
    subject = {"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": account}}
    paths = [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
    return {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": account},
        "spec": {
            "matchingPrecedence": 1000,
            "priorityLevelConfiguration": {"name": "workload-low"},
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{"subjects": [subject], "resourceRules": [everything], "nonResourceRules": paths}],
        },
    }


def _ours(kind: str, place: Place, spec: Manifest) -> Manifest:
    meta = {"name": place.name, "namespace": place.namespace}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": meta, "spec": spec}


def model(place: Place) -> Manifest:
    """Return a model that one person has to approve for the environment."""
    governance = {"approvals": {"required": 1, "environments": [ENVIRONMENT]}}
    return _ours("Model", place, {"type": "LLM", "governance": governance})


def version(place: Place) -> Manifest:
    source = {"endpoint": f"https://{HUB}", "repo": f"acme/{place.name}", "revision": "main"}
    return _ours(
        "ModelVersion", place, {"modelRef": place.name, "version": "1", "source": {"huggingFace": source}}
    )


def approval(stored: Manifest) -> Manifest:
    """Return the approval of the very bytes that a ModelVersion was resolved to."""
    meta, status = stored["metadata"], stored["status"]
    place = Place(meta["namespace"], meta["name"])
    spec = {
        "modelRef": place.name,
        "versionRef": place.name,
        "decision": "Approve",
        "artifactDigest": status["artifactDigest"],
        "specHash": status["specHash"],
        "environments": [ENVIRONMENT],
        "reason": "scale bench",
    }
    return _ours("ModelApproval", place, spec)


def service(place: Place) -> Manifest:
    engine = {"name": "LlamaCpp", "contextTokens": 2048, "maxConcurrency": 8}
    return _ours("InferenceService", place, {"model": {"version": place.name}, "engine": engine})


CHILDREN = tuple(
    resource_of(api_version, kind)
    for api_version, kind in (
        ("apps/v1", "Deployment"),
        ("v1", "Service"),
        ("policy/v1", "PodDisruptionBudget"),
        ("networking.k8s.io/v1", "NetworkPolicy"),
        ("v1", "PersistentVolumeClaim"),
        ("v1", "PersistentVolume"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    )
)
"""What the operator makes of each service: one of each."""
