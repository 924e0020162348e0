"""The generated definitions on a real API server: accepted as structural, and every rule refuses."""

import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config

CRDS = sorted((Path(__file__).parents[2] / "crds").glob("*.yaml"))
DIGEST = "sha256:" + "ab" * 32
NAMESPACE = "default"

MODEL: dict[str, Any] = {"type": "LLM", "owner": {"team": "risk"}}
VERSION: dict[str, Any] = {
    "modelRef": "fraud",
    "version": "7",
    "source": {"huggingFace": {"repo": "acme/fraud", "revision": "main"}},
}
SERVICE: dict[str, Any] = {"model": {"version": "fraud-7"}}
APPROVAL: dict[str, Any] = {
    "modelRef": "fraud",
    "versionRef": "fraud-7",
    "decision": "Approve",
    "artifactDigest": DIGEST,
    "specHash": DIGEST,
    "environments": ["prod"],
    "approver": {"username": "admin"},
}
BASE = {
    "Model": MODEL,
    "ModelVersion": VERSION,
    "InferenceService": SERVICE,
    "RolloutPolicy": {},
    "ModelApproval": APPROVAL,
}

# A kind, where its spec is changed, the new value, and what the refusal says.
REFUSALS: list[tuple[str, str, Any, str]] = [
    ("Model", "governance.signature", {}, "signatures of model files are not supported yet"),
    ("Model", "governance.evaluation", {"required": True}, "evaluation gates are not supported yet"),
    ("Model", "governance.licenses", {}, "licence rules are not supported yet"),
    ("Model", "governance.remoteCode", {}, "a rule for repository code is not supported yet"),
    ("Model", "governance.images", {}, "image rules are not supported yet"),
    ("Model", "governance.approvals", {"validity": "59m"}, "must be valid for at least 1h"),
    ("Model", "governance.approvals", {"validity": "0d"}, "must be valid for at least 1h"),
    ("Model", "aliases", {"a" * 64: "fraud-7"}, "an alias has from 1 to 63 letters"),
    ("Model", "track", {}, "following an upstream registry is not supported yet"),
    ("Model", "retraining", {"workflowRef": {"name": "train"}}, "starting a retraining is not supported yet"),
    ("Model", "retention", {}, "retention is not supported yet"),
    ("ModelVersion", "source", {}, "a version has exactly one source"),
    (
        "ModelVersion",
        "source",
        {"huggingFace": {"repo": "a/b"}, "oci": {}},
        "a version has exactly one source",
    ),
    ("ModelVersion", "source", {"oci": {"reference": "r"}}, "OCI sources are not supported yet"),
    ("ModelVersion", "source", {"s3": {"bucket": "b"}}, "S3 sources are not supported yet"),
    ("ModelVersion", "source", {"pvc": {"claimName": "c"}}, "volume sources are not supported yet"),
    ("ModelVersion", "source", {"http": {"url": "u"}}, "HTTP sources are not supported yet"),
    ("ModelVersion", "source", {"mlflow": {"model": "m"}}, "MLflow sources are not supported yet"),
    ("ModelVersion", "adapter", {"baseVersionRef": "fraud-6"}, "LoRA adapters are not supported yet"),
    ("InferenceService", "model", {}, "names either a version, or a model and one of its aliases"),
    ("InferenceService", "model", {"name": "fraud"}, "names either a version, or a model"),
    ("InferenceService", "model", {"alias": "champion"}, "names either a version, or a model"),
    (
        "InferenceService",
        "model",
        {"version": "v", "alias": "champion"},
        "names either a version, or a model",
    ),
    ("InferenceService", "model", {"version": "v", "name": "n", "alias": "a"}, "names either a version"),
    ("InferenceService", "engine", {"name": "Custom"}, "engine Custom needs the image to run"),
    (
        "InferenceService",
        "engine",
        {"custom": {"port": 8080}},
        "engine.custom describes a container of your own",
    ),
    ("InferenceService", "engine", {"name": "Auto", "image": "a"}, "an image belongs to one engine"),
    ("InferenceService", "engine", {"image": "a"}, "an image belongs to one engine"),
    (
        "InferenceService",
        "engine",
        {"name": "Custom", "image": "a", "contextTokens": 9},
        "engine Custom does not know contextTokens",
    ),
    (
        "InferenceService",
        "engine",
        {"name": "Predictive", "maxConcurrency": 9},
        "contextTokens and maxConcurrency belong to engines of language models",
    ),
    ("InferenceService", "engine.adapters", [{}], "LoRA adapters are not supported yet"),
    ("InferenceService", "accelerator.count", 0, "accelerator.count is Auto or a whole number from 1 to 64"),
    ("InferenceService", "accelerator.count", 65, "accelerator.count is Auto or a whole number from 1 to 64"),
    (
        "InferenceService",
        "accelerator.count",
        "2",
        "accelerator.count is Auto or a whole number from 1 to 64",
    ),
    ("InferenceService", "accelerator.sharing", "Often", "Unsupported value"),
    ("InferenceService", "accelerator.partition", "half", "should match"),
    (
        "InferenceService",
        "accelerator",
        {"partition": "1g.10gb", "resourceName": "nvidia.com/gpu"},
        "accelerator.partition finds the resource of its slices itself",
    ),
    (
        "InferenceService",
        "accelerator",
        {"partition": "1g.10gb", "count": 2},
        "slices and shares of GPUs work alone",
    ),
    (
        "InferenceService",
        "accelerator",
        {"partition": "1g.10gb", "nodes": 2},
        "slices and shares of GPUs work alone; leave accelerator.nodes out",
    ),
    (
        "InferenceService",
        "accelerator",
        {"nodes": 2, "cpuFallback": True},
        "a group of nodes has no place on CPUs",
    ),
    (
        "InferenceService",
        "accelerator",
        {"sharing": "MPS", "count": 2},
        "slices and shares of GPUs work alone",
    ),
    (
        "InferenceService",
        "accelerator",
        {"sharing": "Exclusive", "resourceName": "amd.com/gpu"},
        "accelerator.sharing is known of NVIDIA's GPUs alone",
    ),
    (
        "InferenceService",
        "placement.tolerations",
        [{"key": "a", "operator": "Exists", "value": "b"}],
        "a toleration with operator Exists has no value",
    ),
    ("InferenceService", "placement.topology", {}, "spreading over a topology is not supported yet"),
    (
        "InferenceService",
        "scaling",
        {"maxReplicas": 2},
        "scaling by load is not supported yet; set maxReplicas",
    ),
    (
        "InferenceService",
        "scaling",
        {"minReplicas": 3, "maxReplicas": 2},
        "scaling by load is not supported yet",
    ),
    ("InferenceService", "scaling.metric", {}, "scaling by load is not supported yet; leave metric out"),
    ("InferenceService", "scaling.target", "5", "scaling by load is not supported yet; leave target out"),
    ("InferenceService", "scaling.schedule", {}, "scaling by the clock is not supported yet"),
    ("InferenceService", "traffic.sessionAffinity", {}, "session affinity is not supported yet"),
    ("InferenceService", "podTemplate.labels", {"modelops.dev/service": "b"}, "are set by the operator"),
    (
        "InferenceService",
        "podTemplate.labels",
        {"app.kubernetes.io/managed-by": "b"},
        "are set by the operator",
    ),
    ("InferenceService", "podTemplate.annotations", {"modelops.dev/digest": "b"}, "are set by the operator"),
    ("InferenceService", "podTemplate.resources.requests", {"nvidia.com/gpu": 1}, "only cpu, memory and"),
    ("InferenceService", "podTemplate.resources.limits", {"nvidia.com/gpu": "1"}, "only cpu, memory and"),
    ("RolloutPolicy", "strategy", "Rainbow", "Unsupported value"),
    ("RolloutPolicy", "blueGreen", {"bake": "10m"}, "blueGreen belongs to strategy BlueGreen"),
    ("RolloutPolicy", "shadow", {"percent": 10}, "shadow belongs to strategy Shadow"),
    ("RolloutPolicy", "", {"strategy": "BlueGreen", "canary": {}}, "blue-green has no canary"),
    (
        "RolloutPolicy",
        "",
        {"strategy": "Shadow", "canary": {"mirrorFirst": {}}},
        "a shadow run begins with mirrored requests already",
    ),
    (
        "RolloutPolicy",
        "",
        {"strategy": "Shadow", "shadow": {"compare": "Responses"}},
        "comparing answers is not supported yet",
    ),
    (
        "RolloutPolicy",
        "",
        {"strategy": "Shadow", "canary": {"capacity": "Recreate"}},
        "capacity Recreate belongs to strategy Canary",
    ),
    (
        "RolloutPolicy",
        "",
        {"canary": {"capacity": "Recreate"}, "approval": {"beforePromotion": True}},
        "with capacity Recreate nothing serves while somebody decides",
    ),
    (
        "RolloutPolicy",
        "",
        {"canary": {"mirrorFirst": {}}, "traffic": {"provider": "Replicas"}},
        "without a gateway nothing is mirrored",
    ),
    ("RolloutPolicy", "hooks", [{"name": "a"}], "hooks are not supported yet"),
    ("RolloutPolicy", "loadTest", {}, "load tests are not supported yet"),
    ("RolloutPolicy", "canary.steps", [5, 5], "steps must rise strictly"),
    ("RolloutPolicy", "canary.steps", [10, 5], "steps must rise strictly"),
    ("RolloutPolicy", "canary", {"steps": [5], "stepWeight": 5}, "steps are given either as a list or by"),
    ("RolloutPolicy", "canary", {"maxWeight": 60}, "maxWeight is the end of a series"),
    ("RolloutPolicy", "canary", {"stepWeight": 51}, "stepWeight must not be above maxWeight"),
    (
        "RolloutPolicy",
        "canary",
        {"stepWeight": 30, "maxWeight": 20},
        "stepWeight must not be above maxWeight",
    ),
    (
        "RolloutPolicy",
        "canary",
        {"stepSettings": [{"weight": 7}]},
        "each weight of stepSettings must be one of",
    ),
    (
        "RolloutPolicy",
        "canary",
        {"steps": [7], "stepSettings": [{"weight": 5}]},
        "each weight of stepSettings must be one of",
    ),
    (
        "RolloutPolicy",
        "canary",
        {"stepWeight": 10, "stepSettings": [{"weight": 60}]},
        "each weight of stepSettings must be one of",
    ),
    ("RolloutPolicy", "canary", {"minDwell": "60m"}, "minDwell must be shorter than maxDuration"),
    ("RolloutPolicy", "canary", {"maxDuration": "2m"}, "minDwell must be shorter than maxDuration"),
    (
        "RolloutPolicy",
        "canary",
        {"capacity": "Recreate", "steps": [5]},
        "with capacity Recreate the candidate takes over as soon as it is ready",
    ),
    ("RolloutPolicy", "canary.match", [{}], "a match names either a header or a cookie"),
    (
        "RolloutPolicy",
        "canary",
        {"match": [{"header": {"name": "a", "value": "b"}}], "stepWeight": 5},
        "matched requests have no shares",
    ),
    ("RolloutPolicy", "analysis.window", "29s", "a window lasts from 30s to 1h"),
    ("RolloutPolicy", "analysis.window", "61m", "a window lasts from 30s to 1h"),
    ("RolloutPolicy", "analysis.baseline", "FreshBaseline", "a second stable version to compare with"),
    ("RolloutPolicy", "analysis.onInconclusive", "Guess", "Unsupported value"),
    ("RolloutPolicy", "analysis.minRequests", 0, "should be greater than or equal to 1"),
    ("RolloutPolicy", "analysis.retain", 20, "keeping windows in status is not supported yet"),
    (
        "RolloutPolicy",
        "analysis",
        {"preset": "None", "metrics": [{"name": "ttft"}]},
        "preset None judges by no metric",
    ),
    (
        "RolloutPolicy",
        "analysis.margins.latency",
        {"maxRegression": "30%"},
        "maxRegression must be below unacceptable, 10% and 30%",
    ),
    (
        "RolloutPolicy",
        "analysis.margins.errors",
        {"unacceptable": "25%"},
        "maxRegression must be below unacceptable, 25% and 100%",
    ),
    ("RolloutPolicy", "analysis.margins.errors", {"slo": "0.4%"}, "ignoreBelow must not be above slo"),
    (
        "RolloutPolicy",
        "analysis.margins.quality",
        {"maxDrop": "1pp"},
        "quality metrics are not supported yet",
    ),
    ("RolloutPolicy", "analysis.confidence.falseRollback", 0, "a budget for wrong decisions lies between"),
    ("RolloutPolicy", "analysis.confidence.falseRollback", 0.5, "a budget for wrong decisions lies between"),
    (
        "RolloutPolicy",
        "analysis.confidence.missedRegression",
        0.5,
        "a budget for wrong decisions lies between",
    ),
    ("RolloutPolicy", "analysis.metrics", [{"name": "throughput"}], "custom metrics are not supported yet"),
    *(
        (
            "RolloutPolicy",
            "analysis.metrics",
            [{"name": "errors", kind: {}}],
            "custom metrics are not supported yet",
        )
        for kind in ("histogram", "ratio", "counter", "gauge", "score", "threshold")
    ),
    (
        "RolloutPolicy",
        "analysis.metrics",
        [{"name": "errors", "margin": "quality"}],
        "custom metrics are not supported yet",
    ),
    (
        "RolloutPolicy",
        "analysis.metrics",
        [{"name": "errors", "provider": {}}],
        "a Prometheus per metric is not supported yet",
    ),
    ("RolloutPolicy", "traffic.provider", "External", "splitting by another system is not supported yet"),
    ("RolloutPolicy", "traffic.routeRef", {}, "routeRef.name: Required value"),
    ("RolloutPolicy", "traffic.routeRef", {"name": "Not a name"}, "routeRef.name"),
    ("RolloutPolicy", "traffic.routeRef", {"name": "r", "kind": "TLSRoute"}, "Unsupported value"),
    (
        "RolloutPolicy",
        "traffic",
        {"provider": "Replicas", "routeRef": {"name": "r"}},
        "a route of your own has a gateway",
    ),
    *(
        ("RolloutPolicy", "", {"traffic": {"routeRef": {"name": "r"}}, **more}, "only weights are changed")
        for more in (
            {"strategy": "Shadow"},
            {"canary": {"match": [{"header": {"name": "x-beta", "value": "yes"}}]}},
            {"canary": {"mirrorFirst": {}}},
            {"canary": {"sessionAffinity": {}}},
        )
    ),
    ("RolloutPolicy", "canary.sessionAffinity", {"by": "Luck"}, "Unsupported value"),
    ("ModelApproval", "attestation", {}, "signed approvals are not supported yet"),
]
# Changes of what is stored: a kind, what is changed before, where, the new value (None removes), the refusal.
CHANGES: list[tuple[str, dict[str, Any], str, Any, str]] = [
    ("ModelVersion", {}, "modelRef", "other", "modelRef of a ModelVersion is immutable"),
    ("ModelVersion", {}, "version", "8", "version of a ModelVersion is immutable"),
    ("ModelVersion", {}, "source.huggingFace.revision", "dev", "source of a ModelVersion is immutable"),
    ("ModelVersion", {}, "authSecretRef", {"name": "t"}, "authSecretRef of a ModelVersion is immutable"),
    ("ModelVersion", {}, "format", "GGUF", "format of a ModelVersion is immutable"),
    ("ModelVersion", {}, "derivedFrom", {"versionRef": "a"}, "derivedFrom of a ModelVersion is immutable"),
    ("ModelVersion", {}, "lineage", {"code": "c"}, "lineage of a ModelVersion is immutable"),
    ("ModelVersion", {"lineage": {"code": "c"}}, "lineage", None, "lineage of a ModelVersion is immutable"),
    ("ModelVersion", {}, "schema", {"inputs": []}, "schema of a ModelVersion is immutable"),
    ("ModelVersion", {"card": {"Use": "a"}}, "card.Use", "b", "card of a ModelVersion is immutable"),
    ("ModelVersion", {}, "createdBy", "mallory", "createdBy of a ModelVersion is immutable"),
    ("ModelVersion", {"lifecycle": "Revoked"}, "lifecycle", "Archived", "lifecycle only goes forward"),
    ("ModelVersion", {"lifecycle": "Deprecated"}, "lifecycle", None, "lifecycle only goes forward"),
    ("ModelApproval", {}, "reason", "on second thoughts", "a ModelApproval is immutable"),
    ("ModelApproval", {}, "decision", "Revoke", "a ModelApproval is immutable"),
    ("ModelApproval", {}, "environments", ["prod", "test"], "a ModelApproval is immutable"),
]
NAMES: list[tuple[str, str, str]] = [
    ("Model", "a" * 64, "a Model's name is a label value of at most 63 letters"),
    ("ModelVersion", "a" * 64, "a ModelVersion's name is a label value of at most 63 letters"),
    ("InferenceService", "a" * 54, "an InferenceService's name has at most 53 letters"),
    ("InferenceService", "a.b", "a Service bears this name"),
    ("InferenceService", "7b", "a Service bears this name"),
]
EXPIRING_REVOCATION = {**APPROVAL, "decision": "Revoke", "expiresAt": "2030-01-01T00:00:00Z"}

ACCEPTED: list[tuple[str, str, dict[str, Any]]] = [
    ("an empty policy is complete", "RolloutPolicy", {}),
    (
        "the policy of the quick start",
        "RolloutPolicy",
        {
            "warmup": "10s",
            "canary": {"steps": [20, 50], "minDwell": "30s", "maxDuration": "10m"},
            "analysis": {"preset": "LLM", "window": "30s", "noData": {"after": "2m"}},
            "scaleDownDelay": "10s",
            "abortScaleDownDelay": "5s",
            "drainTimeout": "1m",
        },
    ),
    (
        "a policy with every field that works",
        "RolloutPolicy",
        {
            "strategy": "Canary",
            "suspend": False,
            "warmup": "2m",
            "canary": {
                "steps": [5, 10, 25, 50],
                "stepSettings": [
                    {"weight": 5, "minDwell": "5m", "pause": "10m", "approval": False},
                    {"weight": 50, "pause": "Manual"},
                ],
                "minDwell": "2m",
                "maxDuration": "1h30m",
                "capacity": "Surge",
            },
            "analysis": {
                "preset": "Auto",
                "window": "1m",
                "baseline": "Stable",
                "margins": {
                    "latency": {"maxRegression": "10%", "unacceptable": "30%"},
                    "errors": {
                        "maxRegression": "25%",
                        "unacceptable": "100%",
                        "ignoreBelow": "0.5%",
                        "slo": "1%",
                    },
                },
                "confidence": {"falseRollback": 0.01, "missedRegression": 0.05},
                "metrics": [{"name": "ttft", "mode": "Report", "weight": 2}, {"name": "e2e", "mode": "Off"}],
                "noData": {"after": "10m", "action": "Continue"},
                "metricsUnavailable": {"action": "Freeze", "after": "1h", "then": "Pause"},
                "onRegression": "Hold",
                "onInconclusive": "Promote",
                "minRequests": 500,
            },
            "approval": {"beforeStart": False, "beforePromotion": False},
            "progressDeadline": "30m",
            "minReady": "10s",
            "restartLimit": 0,
            "scaleDownDelay": "2m",
            "drainTimeout": "10m",
            "abortScaleDownDelay": "30s",
            "rollbackWindow": 3,
            "traffic": {"provider": "GatewayAPI", "acceptTimeout": "2m"},
        },
    ),
    (
        "a series of steps with settings at its end",
        "RolloutPolicy",
        {"canary": {"stepWeight": 20, "maxWeight": 50, "stepSettings": [{"weight": 40}, {"weight": 50}]}},
    ),
    ("the least that a model needs", "Model", {"type": "Predictive"}),
    (
        "a model with every field that works",
        "Model",
        {
            "type": "LLM",
            "tasks": ["text-generation"],
            "owner": {"team": "risk", "contact": "risk@example.com"},
            "riskTier": "High",
            "business": {"useCase": "Answer claims", "kpi": "hours per claim"},
            "license": "apache-2.0",
            "governance": {
                "approvals": {
                    "required": 2,
                    "separationOfDuties": True,
                    "environments": ["prod"],
                    "validity": "90d",
                },
                "formats": {"allowed": ["GGUF", "safetensors"]},
            },
            "aliases": {"champion": "fraud-7"},
        },
    ),
    (
        "a version with every field that works",
        "ModelVersion",
        {
            "modelRef": "fraud",
            "version": "7",
            "source": {
                "huggingFace": {
                    "repo": "acme/fraud",
                    "revision": "7ae5576",
                    "endpoint": "http://hub.models.svc:8080",
                    "allowPatterns": ["*.gguf"],
                    "ignorePatterns": ["*.md"],
                }
            },
            "authSecretRef": {"name": "hub-token"},
            "format": "GGUF",
            "derivedFrom": {"versionRef": "fraud-6", "method": "quantization"},
            "lineage": {
                "datasets": ["claims-2025"],
                "code": "git@example.com/fraud@1234",
                "experiment": {"system": "MLflow", "uri": "https://example.com/7", "runId": "a1"},
                "author": "alice",
            },
            "schema": {"inputs": [{"name": "amount", "dtype": "float", "min": "0", "unit": "EUR"}]},
            "card": {"Intended use": "Claims"},
            "lifecycle": "Active",
            "createdBy": "alice",
        },
    ),
    (
        "a service that follows an alias",
        "InferenceService",
        {"model": {"name": "fraud", "alias": "champion"}},
    ),
    (
        "a service with every field that works",
        "InferenceService",
        {
            "model": {"version": "fraud-7"},
            "engine": {
                "name": "LlamaCpp",
                "image": "registry.example.com:5000/llama:server-cuda-b1@" + DIGEST,
                "contextTokens": 4096,
                "maxConcurrency": 8,
                "extraArgs": ["--jinja"],
                "env": [{"name": "LLAMA_LOG", "value": "1"}],
            },
            "accelerator": {
                "resourceName": "nvidia.com/gpu",
                "count": 1,
                "products": ["NVIDIA-H200"],
                "minMemory": "80Gi",
                "cpuFallback": False,
            },
            "placement": {
                "nodeSelector": {"pool": "gpu"},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
                "zones": ["a"],
                "priorityClassName": "high",
            },
            "scaling": {"minReplicas": 2, "maxReplicas": 2},
            "traffic": {
                "gatewayRef": {"name": "gateway", "namespace": "gateways", "sectionName": "http"},
                "hostnames": ["chat.example.com"],
                "path": "/v1",
            },
            "rolloutPolicyRef": {"name": "careful"},
            "rollout": {"action": "Promote", "runId": "8c1f", "wait": 2},
            "podTemplate": {
                "labels": {"team": "risk"},
                "annotations": {"team": "risk"},
                "resources": {"requests": {"cpu": 2, "memory": "4Gi"}, "limits": {"memory": "8Gi"}},
            },
        },
    ),
    (
        "a replica on two nodes",
        "InferenceService",
        {"model": {"version": "fraud-7"}, "accelerator": {"nodes": 2, "count": 8, "sharing": "Exclusive"}},
    ),
    (
        "a slice of a GPU",
        "InferenceService",
        {
            "model": {"version": "fraud-7"},
            "accelerator": {"partition": "1g.10gb+me", "sharing": "Exclusive", "count": "Auto"},
        },
    ),
    (
        "GPUs that nobody shares",
        "InferenceService",
        {"model": {"version": "fraud-7"}, "accelerator": {"sharing": "Exclusive", "count": 2}},
    ),
    (
        "a container of one's own",
        "InferenceService",
        {
            "model": {"version": "fraud-7"},
            "engine": {
                "name": "Custom",
                "image": "example.com/own:1",
                "custom": {
                    "command": ["/serve"],
                    "args": ["--port=8080"],
                    "healthPath": "/health",
                    "port": 8080,
                },
            },
            "accelerator": {"count": "Auto"},
        },
    ),
    (
        "a canary with all it has",
        "RolloutPolicy",
        {
            "canary": {
                "steps": [5, 50],
                "stepSettings": [{"weight": 5, "replicas": 2, "approval": True, "pause": "10m"}],
                "capacity": "DynamicStable",
                "sessionAffinity": {"cookie": "chat", "maxAge": "30m", "by": "Cookie"},
                "mirrorFirst": {"percent": 20, "duration": "5m"},
            },
            "approval": {"beforeStart": True, "beforePromotion": True},
        },
    ),
    (
        "matched requests",
        "RolloutPolicy",
        {
            "canary": {
                "match": [
                    {"header": {"name": "x-beta", "value": "yes"}},
                    {"cookie": {"name": "beta", "value": "1"}},
                ]
            }
        },
    ),
    (
        "blue-green",
        "RolloutPolicy",
        {
            "strategy": "BlueGreen",
            "blueGreen": {"previewReplicas": 1, "autoPromote": False, "bake": "30m"},
            "approval": {"beforeStart": False},
        },
    ),
    (
        "a shadow",
        "RolloutPolicy",
        {
            "strategy": "Shadow",
            "shadow": {"percent": 100, "duration": "1h", "compare": "Metrics", "then": "Stop"},
            "canary": {"maxDuration": "3h"},
        },
    ),
    (
        "a route of one's own",
        "RolloutPolicy",
        {"traffic": {"provider": "GatewayAPI", "routeRef": {"kind": "GRPCRoute", "name": "chat.web"}}},
    ),
    (
        "blue-green behind a route of one's own",
        "RolloutPolicy",
        {"strategy": "BlueGreen", "traffic": {"routeRef": {"name": "web"}}},
    ),
    (
        "no spare GPU",
        "RolloutPolicy",
        {"canary": {"capacity": "Recreate"}, "traffic": {"provider": "Replicas"}},
    ),
    ("an approval that ends", "ModelApproval", {**APPROVAL, "expiresAt": "2030-01-01T00:00:00Z"}),
    ("a revocation", "ModelApproval", {**APPROVAL, "decision": "Revoke", "reason": "leaks data"}),
]


class Server:
    """The API server, as far as these tests need it."""

    def __init__(self, kubeconfig: str) -> None:
        rest = config.new_client_from_config(kubeconfig)
        self.crds = client.ApiextensionsV1Api(rest)
        self.objects = client.CustomObjectsApi(rest)
        self.plurals = {crd["spec"]["names"]["kind"]: crd["spec"]["names"]["plural"] for crd in definitions()}

    def where(self, kind: str) -> tuple[str, str, str, str]:
        return "modelops.dev", "v1alpha1", NAMESPACE, self.plurals[kind]

    def create(self, kind: str, name: str, spec: dict[str, Any], **options: str) -> dict[str, Any]:
        body = {
            "apiVersion": "modelops.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
        }
        created: dict[str, Any] = self.objects.create_namespaced_custom_object(
            *self.where(kind), body, field_validation="Strict", **options
        )
        return created

    def replace(self, obj: dict[str, Any]) -> None:
        where = (*self.where(obj["kind"]), obj["metadata"]["name"])
        self.objects.replace_namespaced_custom_object(*where, obj, dry_run="All", field_validation="Strict")

    def delete(self, kind: str, name: str) -> None:
        self.objects.delete_namespaced_custom_object(*self.where(kind), name)


def definitions() -> list[dict[str, Any]]:
    return [yaml.safe_load(path.read_text()) for path in CRDS]


def changed(spec: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return *spec* with *value* at the dotted *path*; None removes what is there, no path adds its parts."""
    if not path:
        return {**spec, **value}
    result = deepcopy(spec)
    *parents, last = path.split(".")
    part = result
    for name in parents:
        part = part.setdefault(name, {})
    if value is None:
        del part[last]
    else:
        part[last] = value
    return result


def refusal_of(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(client.ApiException) as refused:
        call(*arguments, **options)
    assert refused.value.status == 422, refused.value.body
    return str(yaml.safe_load(refused.value.body)["message"])


@pytest.fixture(scope="module")
def server(api: Any) -> Iterator[Server]:
    """The server with the generated definitions in force; what was there before stays afterwards."""
    server = Server(str(api.kubeconfig))
    before = {crd.metadata.name for crd in server.crds.list_custom_resource_definition().items}
    for crd in definitions():
        name = crd["metadata"]["name"]
        if name in before:
            server.crds.patch_custom_resource_definition(name, crd)
        else:
            server.crds.create_custom_resource_definition(crd)
    yield server
    for crd in definitions():
        if crd["metadata"]["name"] not in before:
            server.crds.delete_custom_resource_definition(crd["metadata"]["name"])


def conditions(server: Server, name: str) -> dict[str, str]:
    crd = server.crds.read_custom_resource_definition(name)
    return {condition.type: condition.status for condition in crd.status.conditions or ()}


@pytest.fixture(scope="module")
def established(server: Server) -> Server:
    """The server once it answers for all kinds."""
    until = time.monotonic() + 30
    names = [crd["metadata"]["name"] for crd in definitions()]
    while not all(conditions(server, name).get("Established") == "True" for name in names):
        assert time.monotonic() < until, {name: conditions(server, name) for name in names}
        time.sleep(0.1)
    for kind in BASE:
        while not _answers(server, kind):
            assert time.monotonic() < until, kind
            time.sleep(0.1)
    return server


def _answers(server: Server, kind: str) -> bool:
    try:
        server.objects.list_namespaced_custom_object(*server.where(kind))
    except client.ApiException as error:
        if error.status != 404:
            raise
        return False
    return True


@pytest.mark.parametrize("crd", definitions(), ids=lambda crd: crd["spec"]["names"]["kind"])
def test_a_definition_is_structural_and_takes_its_names(established: Server, crd: dict[str, Any]) -> None:
    found = conditions(established, crd["metadata"]["name"])
    assert found.get("NamesAccepted") == "True"
    assert "NonStructuralSchema" not in found


@pytest.mark.parametrize(
    ("kind", "path", "value", "message"),
    [pytest.param(*row, id=f"{row[0]} {row[1]} {row[2]}: {row[3]}") for row in REFUSALS],
)
def test_a_rule_refuses_with_its_sentence(
    established: Server, kind: str, path: str, value: Any, message: str
) -> None:
    spec = changed(BASE[kind], path, value)
    assert message in refusal_of(established.create, kind, "refused", spec, dry_run="All")


@pytest.mark.parametrize(
    ("kind", "before", "path", "value", "message"),
    [pytest.param(*row, id=f"{row[0]} {row[2]} {row[3]}: {row[4]}") for row in CHANGES],
)
def test_what_is_stored_does_not_change(
    established: Server, kind: str, before: dict[str, Any], path: str, value: Any, message: str
) -> None:
    stored = established.create(kind, "stored", {**BASE[kind], **before})
    try:
        assert message in refusal_of(
            established.replace, {**stored, "spec": changed(stored["spec"], path, value)}
        )
    finally:
        established.delete(kind, "stored")


@pytest.mark.parametrize("stages", [("Active", "Deprecated"), ("Deprecated", "Revoked"), (None, "Archived")])
def test_a_lifecycle_goes_forward(established: Server, stages: tuple[str | None, str]) -> None:
    before, after = stages
    stored = established.create(
        "ModelVersion", "ageing", {**VERSION, **({"lifecycle": before} if before else {})}
    )
    try:
        established.replace({**stored, "spec": {**stored["spec"], "lifecycle": after}})
    finally:
        established.delete("ModelVersion", "ageing")


@pytest.mark.parametrize(
    ("kind", "name", "message"), [pytest.param(*row, id=f"{row[0]} {row[1]}: {row[2]}") for row in NAMES]
)
def test_a_name_must_leave_room_for_its_children(
    established: Server, kind: str, name: str, message: str
) -> None:
    assert message in refusal_of(established.create, kind, name, BASE[kind], dry_run="All")


LONG_FOR_A_GROUP = "a service on several nodes has a name of at most 40 letters"


def test_the_name_of_a_group_leaves_room_for_its_pods(established: Server) -> None:
    group = {**BASE["InferenceService"], "accelerator": {"nodes": 2}}
    assert LONG_FOR_A_GROUP in refusal_of(
        established.create, "InferenceService", "a" * 41, group, dry_run="All"
    )
    established.create("InferenceService", "a" * 40, group, dry_run="All")
    established.create("InferenceService", "a" * 41, {**group, "accelerator": {"nodes": 1}}, dry_run="All")


def test_a_revocation_does_not_end(established: Server) -> None:
    message = refusal_of(established.create, "ModelApproval", "refused", EXPIRING_REVOCATION, dry_run="All")
    assert "only an approval can end by itself" in message


@pytest.mark.parametrize(("kind", "spec"), [pytest.param(*row[1:], id=row[0]) for row in ACCEPTED])
def test_what_works_is_accepted_as_it_was_written(
    established: Server, kind: str, spec: dict[str, Any]
) -> None:
    """The server adds nothing: a default would show in every comparison and change every spec hash.

    Who created or approved is left out, since a policy on the server may stamp it.
    """
    stored = established.create(kind, "accepted", spec, dry_run="All")["spec"]
    assert _unstamped(stored) == _unstamped(spec)


def _unstamped(spec: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name not in ("createdBy", "approver")}


def test_every_rule_has_an_object_that_it_refuses() -> None:
    said = [row[-1] for row in (*REFUSALS, *CHANGES, *NAMES)]
    said += ["only an approval can end by itself", LONG_FOR_A_GROUP]
    rules = [message for crd in definitions() for message in _messages(crd["spec"]["versions"][0]["schema"])]
    assert [message for message in rules if not any(part in message for part in said)] == []


def _messages(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from (rule["message"] for rule in part.get("x-kubernetes-validations", ()) if "rule" in rule)
        for inner in part.values():
            yield from _messages(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _messages(inner)
